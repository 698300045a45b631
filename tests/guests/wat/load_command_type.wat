;; Exports a `run` that takes a number.
(component
  (core module $guest (func (export "run") (param i32)))
  (core instance $guest (instantiate $guest))
  (func $run (param "level" u32) (canon lift (core func $guest "run")))
  (instance $interface (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $interface)))
