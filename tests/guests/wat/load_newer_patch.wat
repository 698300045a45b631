;; Exports a handler of a later patch version, which is the same to its host.
(component
  HANDLER@0.1.7)
