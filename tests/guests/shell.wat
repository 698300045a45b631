;; What makes a component of a guest's core module `$guest`: ../build.rs puts the module where `CORE` stands and wraps all in
;; `(component …)`. A guest that is a whole component says `HANDLER@0.1.0` where it wants this, with a module that answers ok.
;; The module gets
;;   libc.memory, libc.realloc   a memory of one page with a bump allocator that begins at 4096; what is below is the module's
;;   own.new, own.drop           a resource type of the component's own: handles that only the component's own table holds
;; and exports
;;   handle (param i32) (result i32)   takes the address of event and delivery, gives the address of the answer; a zero byte means ok
;;   post-return (param i32)           if it likes
(import "weir:events/types@0.1.0" (instance $types
  (type $an-event (record
    (field "id" string)
    (field "source" string)
    (field "type" string)
    (field "subject" (option string))
    (field "time" (option string))
    (field "datacontenttype" (option string))
    (field "dataschema" (option string))
    (field "extensions" (list (tuple string string)))
    (field "data" (option (list u8)))))
  (export "event" (type $event (eq $an-event)))
  (type $an-delivery (record
    (field "handler" string)
    (field "queue" string)
    (field "order-key" (option string))
    (field "attempt" u32)
    (field "attempts-left" u32)
    (field "first-seen" u64)
    (field "time-left" u64)
    (field "idempotency-key" string)
    (field "wants-reply" bool)))
  (export "delivery" (type $delivery (eq $an-delivery)))
  (type $an-retry (record (field "reason" string) (field "after" (option u64))))
  (export "retry" (type $retry (eq $an-retry)))
  (type $an-failure (variant (case "retry" $retry) (case "reject" string)))
  (export "failure" (type $failure (eq $an-failure)))))
(alias export $types "event" (type $event))
(alias export $types "delivery" (type $delivery))
(alias export $types "failure" (type $failure))

(core module $libc
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 4096))
  (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $fits (i32.ne (i32.const -1)
        (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
      unreachable)
    (memory.copy (local.get $at) (local.get $old) (local.get $old_size))
    (local.get $at)))
(core instance $libc (instantiate $libc))

(type $own (resource (rep i32)))
(core func $own-new (canon resource.new $own))
(core func $own-drop (canon resource.drop $own))

CORE

(core instance $guest (instantiate $guest
  (with "libc" (instance $libc))
  (with "own" (instance (export "new" (func $own-new)) (export "drop" (func $own-drop))))))
(func $handle (param "event" $event) (param "delivery" $delivery) (result (result (error $failure)))
  (canon lift (core func $guest "handle")
    (memory (core memory $libc "memory"))
    (realloc (core func $libc "realloc"))
    POST-RETURN))
(instance $handler (export "handle" (func $handle)))
(export "weir:events/handler@VERSION" (instance $handler))
