-- Takes what comes again: retries that are due and what was given back, oldest first; then what others let lapse.
-- Arguments: now, lease, count, whether to look for what lapsed.
local now, lease, count, look = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
if fenced() then
  return { 'lost' }
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', retry, '-inf', now, 'LIMIT', 0, count)) do
  local id = unpad(member)
  local packed = redis.call('HGET', tries, id)
  redis.call('ZREM', retry, member)
  add(id, failed_in(packed), packed)
end

if look then
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local holder = fields(flat)
    if holder.name ~= WAITING and holder.pending > 0 and #taken < count then
      local idle = redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', count - #taken, holder.name)
      for _, pending in ipairs(idle) do
        local id, deliveries = pending[1], pending[4]
        -- A holder that is gone may have run it: that counts as a try. What we lost sight of ourselves was stopped, or never ran.
        local failed = deliveries
        if holder.name == consumer then
          failed = math.max(deliveries - 1, 0)
        end
        add(id, failed, redis.call('HGET', tries, id))
      end
    end
  end
end

local first = redis.call('ZRANGE', retry, 0, 0, 'WITHSCORES')
return { 'ok', taken, vanished, first[2] or '' }
