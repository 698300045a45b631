;; Exports a handler that takes a text.
(component
  (core module $guest
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
    (func (export "handle") (param i32 i32)))
  (core instance $guest (instantiate $guest))
  (func $handle (param "text" string) (canon lift (core func $guest "handle") (memory (core memory $guest "memory")) (realloc (core func $guest "realloc"))))
  (instance $handler (export "handle" (func $handle)))
  (export "weir:events/handler@0.1.0" (instance $handler)))
