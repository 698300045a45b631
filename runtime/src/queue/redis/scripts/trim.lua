-- Takes away what every group has acknowledged and passed, in whole nodes. Key: stream. Argument: how many at most. Answers
-- how many.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local oldest = bound(KEYS[1], redis.call('XINFO', 'GROUPS', KEYS[1]))
return oldest and redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest, 'LIMIT', ARGV[1]) or 0
