;; Grows two tables to 600 elements: each of them small enough, together too large.
(core module $guest
  (table $one 1 funcref)
  (table $two 1 funcref)
  (func (export "handle") (param i32) (result i32)
    (if (i32.eq (table.grow $one (ref.null func) (i32.const 599)) (i32.const -1)) (then (return (i32.const 16))))
    (if (i32.eq (table.grow $two (ref.null func) (i32.const 599)) (i32.const -1)) (then unreachable))
    (i32.const 16)))
