;; Is a core module that is no command.
(module (memory (export "memory") 1) (func (export "price-of")))
