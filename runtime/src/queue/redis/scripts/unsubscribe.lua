-- Removes a group and what is kept for it. Keys: stream, retry, tries, reader. Arguments: group, whether what all have passed is kept.
-- Answers the stream's last id when what waits for nobody now is to go, else ''.
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
if redis.call('EXISTS', KEYS[1]) == 0 then
  return ''
end
local removed = redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
if removed == 0 or ARGV[2] ~= '0' then
  return ''
end
-- What waited for it alone goes with it.
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
if #groups == 0 then
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  return last and last[1] or ''
end
local oldest = bound(KEYS[1], groups)
if oldest then
  redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest)
end
return ''
