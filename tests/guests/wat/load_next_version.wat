;; Exports a handler of a version to come.
(component
  HANDLER@0.2.0)
