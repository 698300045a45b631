;; Exits before it was called, with a code that WASI has no room for.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (func $first (call $exit (i32.const 300)))
  (start $first)
  (func (export "_start")))
