;; Has two memories that are over the limit together.
(module
  (memory $one 1)
  (memory $two 1)
  (func (export "_start")
    (if (i32.eq (memory.grow $one (i32.const 600)) (i32.const -1)) (then unreachable))
    (if (i32.eq (memory.grow $two (i32.const 600)) (i32.const -1)) (then unreachable))))
