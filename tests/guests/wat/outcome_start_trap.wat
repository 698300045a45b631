;; Traps in its start function, before the event comes.
(core module $guest
  (func $start unreachable)
  (start $start)
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
