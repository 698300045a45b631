;; Rejects with a reason that lies outside its memory.
(core module $guest
  (import "libc" "memory" (memory 1))
  (func (export "handle") (param i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 1))
    (i32.store8 (i32.const 24) (i32.const 1))
    (i32.store (i32.const 32) (i32.const 65530))
    (i32.store (i32.const 36) (i32.const 0x7fffffff))
    (i32.const 16)))
