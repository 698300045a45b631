;; Exports what commands export, which comes later.
(component
  (instance $run)
  (export "wasi:cli/run@0.2.0" (instance $run)))
