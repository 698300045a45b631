;; Traps.
(core module $guest
  (func $price_of unreachable)
  (func (export "handle") (param i32) (result i32)
    (call $price_of)
    (i32.const 16)))
