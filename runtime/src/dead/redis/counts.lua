-- ARGV: keep in ms, most bytes, most to drop. Answers how many were dropped and the counts, after that.
local dropped = pruned(tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]))
return { dropped, redis.call('HGETALL', COUNTS) }
