-- Takes away what waited for the last group alone, when that was removed. Key: stream. Arguments: the id before which everything goes, how
-- many at most. Answers how many, none when it is done: a group that was made meanwhile begins with what waits.
local stream, before, most = KEYS[1], ARGV[1], ARGV[2]
if redis.call('EXISTS', stream) == 0 or #redis.call('XINFO', 'GROUPS', stream) > 0 then
  return 0
end
local removed = redis.call('XTRIM', stream, 'MINID', '~', before, 'LIMIT', most)
if removed == 0 then
  -- Less than a node is left.
  redis.call('XTRIM', stream, 'MINID', before)
end
return removed
