;; Fills 32 MiB of memory in one instruction, again and again.
(core module $guest
  (import "libc" "memory" (memory 1))
  (func (export "handle") (param i32) (result i32)
    (drop (memory.grow (i32.const 512)))
    (loop $again
      (memory.fill (i32.const 65536) (i32.const 1) (i32.const 0x2000000))
      (br $again))
    (i32.const 16)))
