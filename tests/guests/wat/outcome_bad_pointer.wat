;; Answers with an address outside its memory.
(core module $guest
  (func (export "handle") (param i32) (result i32) (i32.const -8)))
