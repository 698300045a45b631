;; Begins with a table of 90,000 elements.
(core module $guest
  (table 90000 funcref)
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
