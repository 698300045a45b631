;; Has a memory that threads would share.
(core module $guest
  (memory 1 2 shared)
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
