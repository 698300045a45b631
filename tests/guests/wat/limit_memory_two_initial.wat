;; Begins with 40 MiB of memory in each of two modules.
(core module $one (memory 640))
(core instance (instantiate $one))
(core module $guest
  (import "libc" "memory" (memory 1))
  (func (export "handle") (param i32) (result i32)
    (drop (memory.grow (i32.const 400)))
    (i32.const 16)))
