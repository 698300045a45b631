;; Grows one memory to 40 MiB and then another: each of them small enough, together too large. Says in its answer which one was denied.
(core module $guest
  (import "libc" "memory" (memory 1))
  (memory $other 1)
  (func (export "handle") (param i32) (result i32)
    (if (i32.eq (memory.grow 0 (i32.const 639)) (i32.const -1)) (then (return (i32.const 16))))
    (if (i32.eq (memory.grow $other (i32.const 639)) (i32.const -1)) (then unreachable))
    (i32.const 16)))
