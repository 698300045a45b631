;; Answers with a failure that is neither a retry nor a rejection.
(core module $guest
  (import "libc" "memory" (memory 1))
  (func (export "handle") (param i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 1))
    (i32.store8 (i32.const 24) (i32.const 2))
    (i32.const 16)))
