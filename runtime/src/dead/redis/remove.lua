-- ARGV: id. Answers 1 if there was one.
return removed(ARGV[1]) and 1 or 0
