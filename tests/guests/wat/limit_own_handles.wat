;; Makes resources of its own type and keeps them: no host table knows them.
(core module $guest
  (import "own" "new" (func $new (param i32) (result i32)))
  (func (export "handle") (param i32) (result i32)
    (loop $again
      (drop (call $new (i32.const 1)))
      (br $again))
    (i32.const 16)))
