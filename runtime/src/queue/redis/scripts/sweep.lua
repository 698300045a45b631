-- Tidies a group: takes away consumers that hold nothing and were not seen for long, and finds entries that wait without a time, which
-- only happens when keys were lost or changed by hand. Arguments: idle, lease, now, the id to begin after. Answers where it got to, or ''.
local idle, lease, now, after = tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
if redis.call('EXISTS', stream) == 0 then
  return ''
end
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local one = fields(flat)
  if one.pending == 0 and one.idle > idle and one.name ~= consumer then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, one.name)
  end
end
local from = after == '' and '-' or '(' .. after
local page = redis.call('XPENDING', stream, group, 'IDLE', lease, from, '+', 100, WAITING)
local last = ''
for _, pending in ipairs(page) do
  last = pending[1]
  if not redis.call('ZSCORE', retry, pad(last)) then
    redis.call('ZADD', retry, now, pad(last))
  end
end
return #page == 100 and last or ''
