;; Ends the program in its start function: a host call that stops the guest before the event comes.
(component
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (core func $exit (canon lower (func $exit "exit")))
  (core module $starter
    (import "host" "exit" (func $exit (param i32)))
    (func $start (call $exit (i32.const 1)))
    (start $start))
  (core instance (instantiate $starter (with "host" (instance (export "exit" (func $exit))))))
  HANDLER@0.1.0)
