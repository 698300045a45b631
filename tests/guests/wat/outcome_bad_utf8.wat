;; Rejects with a reason that is no text.
(core module $guest
  (import "libc" "memory" (memory 1))
  (data (i32.const 64) "\ff\fe\fd")
  (func (export "handle") (param i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 1))  ;; error
    (i32.store8 (i32.const 24) (i32.const 1))  ;; reject
    (i32.store (i32.const 32) (i32.const 64))
    (i32.store (i32.const 36) (i32.const 3))
    (i32.const 16)))
