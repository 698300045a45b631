;; Fills 16 MiB of memory.
(core module $guest
  (import "libc" "memory" (memory 1))
  (func (export "handle") (param i32) (result i32)
    (drop (memory.grow (i32.const 256)))
    (memory.fill (i32.const 65536) (i32.const 0xaa) (i32.const 0x1000000))
    (i32.const 16)))
