;; Grows a table until it gets no more, and traps.
(core module $guest
  (table $table 1 funcref)
  (func (export "handle") (param i32) (result i32)
    (loop $again
      (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 100)) (i32.const -1))))
    unreachable))
