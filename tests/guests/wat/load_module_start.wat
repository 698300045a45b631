;; Is a core module whose `_start` takes a number.
(module (func (export "_start") (param i32)))
