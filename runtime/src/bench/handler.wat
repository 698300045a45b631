;; The handler that `weir bench` runs unless it is given another one: reads every byte of the event's data, answers ok.
(component
  (core module $code
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at
        (i32.and
          (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
          (i32.xor (i32.sub (local.get $align) (i32.const 1)) (i32.const -1))))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (local.get $at))
    ;; The parameters come spilled: `data` of the event is an option at 84, its pointer at 88, its length at 92.
    (func (export "handle") (param $in i32) (result i32)
      (local $at i32) (local $end i32) (local $sum i32)
      (local.set $at (i32.load offset=84 (local.get $in)))
      (local.set $end (i32.add (local.get $at) (i32.load offset=88 (local.get $in))))
      (block $done
        (loop $next-byte
          (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
          (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next-byte)))
      (i32.store (i32.const 2048) (local.get $sum))
      ;; A result at 1024 whose case is 0: ok.
      (i32.const 1024)))
  (import "weir:events/types@0.1.0" (instance $types
    (type $pair (tuple string string))
    (type $event' (record (field "id" string) (field "source" string) (field "type" string) (field "subject" (option string))
      (field "time" (option string)) (field "datacontenttype" (option string)) (field "dataschema" (option string))
      (field "extensions" (list $pair)) (field "data" (option (list u8)))))
    (export "event" (type $event (eq $event')))
    (type $delivery' (record (field "handler" string) (field "queue" string) (field "order-key" (option string))
      (field "attempt" u32) (field "attempts-left" u32) (field "first-seen" u64) (field "time-left" u64)
      (field "idempotency-key" string) (field "wants-reply" bool)))
    (export "delivery" (type $delivery (eq $delivery')))
    (type $retry' (record (field "reason" string) (field "after" (option u64))))
    (export "retry" (type $retry (eq $retry')))
    (type $failure' (variant (case "retry" $retry) (case "reject" string)))
    (export "failure" (type $failure (eq $failure')))))
  (alias export $types "event" (type $event))
  (alias export $types "delivery" (type $delivery))
  (alias export $types "failure" (type $failure))
  (core instance $running (instantiate $code))
  (func $handle (param "event" $event) (param "delivery" $delivery) (result (result (error $failure)))
    (canon lift (core func $running "handle") (memory (core memory $running "memory")) (realloc (core func $running "realloc"))))
  (instance $handler (export "handle" (func $handle)))
  (export "weir:events/handler@0.1.0" (instance $handler)))
