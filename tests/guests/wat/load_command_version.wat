;; Exports the command of another WASI.
(component
  (instance $run)
  (export "wasi:cli/run@0.3.0" (instance $run)))
