-- Makes a group, unless it is there. Keys: stream, first. Arguments: group, `new` or `all`, whether what all have passed is kept.
-- While a stream has no group, what is published waits, and the first ones begin with it: `first` stands until something has ended.
local stream, first, group = KEYS[1], KEYS[2], ARGV[1]
local groups = {}
if redis.call('EXISTS', stream) == 1 then
  groups = redis.call('XINFO', 'GROUPS', stream)
end
for _, flat in ipairs(groups) do
  for at = 1, #flat, 2 do
    if flat[at] == 'name' and flat[at + 1] == group then
      return 'there'
    end
  end
end
local from = '$'
if #groups == 0 then
  -- With nothing waiting, those that follow begin as they are told.
  if redis.call('XLEN', stream) > 0 then
    redis.call('SET', first, '1')
  end
  from = '0'
elseif redis.call('EXISTS', first) == 1 then
  from = '0'
elseif ARGV[2] == 'all' then
  -- With the oldest that somebody still needs, not with what only waits to be trimmed.
  local oldest = ARGV[3] == '0' and bound(stream, groups)
  if oldest then
    redis.call('XTRIM', stream, 'MINID', oldest)
  end
  from = '0'
end
redis.call('XGROUP', 'CREATE', stream, group, from, 'MKSTREAM')
return 'made'
