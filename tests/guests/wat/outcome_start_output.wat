;; Logs for ever in its start function.
(component
  (import "wasi:logging/logging@0.1.0-draft" (instance $logging
    (type $an-level (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $level (eq $an-level)))
    (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $log (canon lower (func $logging "log") (memory (core memory $memory "memory"))))
  (core module $starter
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func $start
      (loop $again
        (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000))
        (br $again)))
    (start $start))
  (core instance (instantiate $starter (with "host" (instance (export "log" (func $log))))))
  HANDLER@0.1.0)
