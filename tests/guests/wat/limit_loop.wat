;; Loops.
(core module $guest
  (func $spin (loop $again (br $again)))
  (func (export "handle") (param i32) (result i32)
    (call $spin)
    (i32.const 16)))
