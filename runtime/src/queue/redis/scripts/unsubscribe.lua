-- Removes a group and what is kept for it. Keys: stream, retry, tries, reader. Arguments: group, whether what all have passed is kept.
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local removed = redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
if removed == 1 and ARGV[2] == '0' then
  -- What waited for it alone goes with it.
  local oldest = bound(KEYS[1], groups)
  if #groups == 0 then
    redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
  elseif oldest then
    redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest)
  end
end
return removed
