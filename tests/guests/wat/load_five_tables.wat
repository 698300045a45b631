;; Has five tables in two modules.
(core module $more (table 1 funcref) (table 1 funcref) (table 1 funcref))
(core instance (instantiate $more))
(core module $guest
  (table 1 funcref) (table 1 funcref)
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
