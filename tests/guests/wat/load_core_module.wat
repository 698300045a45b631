;; Is a core module.
(module (func (export "_start")))
