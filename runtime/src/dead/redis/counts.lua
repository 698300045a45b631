-- ARGV: as `pruned` takes them. Answers how many were dropped and the counts, after that.
local dropped = pruned()
return { dropped, redis.call('HGETALL', COUNTS) }
