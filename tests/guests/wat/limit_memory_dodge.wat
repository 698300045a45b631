;; After each growth that it gets it asks for one that no memory can do, to be credited for the failure. Says with a trap whether it got
;; 100 MiB.
(core module $guest
  (import "libc" "memory" (memory 1))
  (func (export "handle") (param i32) (result i32)
    (loop $again
      (if (i32.ne (memory.grow (i32.const 160)) (i32.const -1))
        (then
          (drop (memory.grow (i32.const 65536)))
          (br_if $again (i32.lt_u (memory.size) (i32.const 1600)))
          (return (i32.const 16)))))
    unreachable))
