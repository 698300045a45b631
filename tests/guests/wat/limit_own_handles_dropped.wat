;; Makes 50,000 resources of its own type and keeps none.
(core module $guest
  (import "own" "new" (func $new (param i32) (result i32)))
  (import "own" "drop" (func $drop (param i32)))
  (func (export "handle") (param i32) (result i32)
    (local $left i32)
    (local.set $left (i32.const 50000))
    (loop $again
      (call $drop (call $new (i32.const 1)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))
    (i32.const 16)))
