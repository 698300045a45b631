;; Imports preview 0 of WASI, and what another host has.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (import "wasi_unstable" "proc_exit" (func (param i32)))
  (import "env" "abort" (func))
  (func (export "_start")))
