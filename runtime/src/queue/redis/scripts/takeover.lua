-- A new reader takes over what the last one had, in order of ids, whatever it waits for. Arguments: the id to begin after, count.
-- Answers where it got to, or '' when there is no more.
local after, count = ARGV[4], tonumber(ARGV[5])
if fenced() then
  return { 'lost' }
end
local last = after
local from = after == '-' and '-' or '(' .. after
local page = redis.call('XPENDING', stream, group, from, '+', count)
for _, pending in ipairs(page) do
  local id, holder, deliveries = pending[1], pending[2], pending[4]
  last = id
  local packed = redis.call('HGET', tries, id)
  -- The last reader may have run it: that counts as a try, unless it was us, and stopped it.
  local failed = deliveries
  if holder == WAITING then
    failed = failed_in(packed)
    redis.call('ZREM', retry, pad(id))
  elseif holder == consumer then
    failed = math.max(deliveries - 1, 0)
  end
  add(id, failed, packed)
end
if #page < count then
  last = ''
end
return { 'ok', taken, vanished, last }
