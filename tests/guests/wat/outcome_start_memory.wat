;; Wants 32 GiB in its start function, page by page, and traps when it gets no more.
(core module $guest
  (import "libc" "memory" (memory 1))
  (func $start
    (loop $again
      (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable)
  (start $start)
  (func (export "handle") (param i32) (result i32) (i32.const 16)))
