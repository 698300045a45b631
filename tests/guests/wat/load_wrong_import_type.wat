;; Imports a known interface with a function that has another type.
(component
  (import "wasi:cli/exit@0.2.0" (instance (export "exit" (func (param "status" string)))))
  HANDLER@0.1.0)
