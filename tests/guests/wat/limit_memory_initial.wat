;; Begins with 100 MiB of memory.
(core module $guest
  (memory 1600)
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
