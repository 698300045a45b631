;; Exports a handler without its function.
(component
  (instance $handler)
  (export "weir:events/handler@0.1.0" (instance $handler)))
