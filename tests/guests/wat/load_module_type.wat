;; Carries a component type that is none.
(module (func (export "_start")) (@custom "component-type" "nonsense"))
