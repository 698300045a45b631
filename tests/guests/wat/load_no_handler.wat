;; Exports something else.
(component
  (core module $nothing)
  (core instance $nothing (instantiate $nothing))
  (instance $run)
  (export "acme:orders/run@1.0.0" (instance $run)))
