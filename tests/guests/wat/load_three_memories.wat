;; Has three linear memories.
(core module $more (memory 1) (memory 1))
(core instance (instantiate $more))
(core module $guest
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
