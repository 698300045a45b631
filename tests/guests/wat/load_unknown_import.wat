;; Imports what nobody has, one known thing in a version that Weir does not have, and one thing that is not granted.
(component
  (import "acme:orders/prices@1.0.0" (instance))
  (import "wasi:clocks/monotonic-clock@0.3.0" (instance))
  (import "wasi:keyvalue/store@0.2.0-draft2" (instance))
  HANDLER@0.1.0)
