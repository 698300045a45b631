;; Has a memory that says itself that it never needs more than two pages, and traps when it gets no third.
(core module $guest
  (memory 1 2)
  (func (export "handle") (param i32) (result i32)
    (drop (memory.grow (i32.const 1)))
    (br_if 0 (i32.const 16) (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
    unreachable))
