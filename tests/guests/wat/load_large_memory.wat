;; Begins with a memory larger than any that the pool has.
(core module $guest
  (memory 8000)
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
