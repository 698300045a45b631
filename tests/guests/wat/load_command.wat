;; Exports the interface of commands, without its function.
(component
  (instance $run)
  (export "wasi:cli/run@0.2.0" (instance $run)))
