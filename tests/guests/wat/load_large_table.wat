;; Begins with a table larger than any that the pool has.
(core module $guest
  (table 100001 funcref)
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
