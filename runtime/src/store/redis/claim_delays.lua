-- Claims what is due, earliest first. KEYS: by when they are due; those that are claimed, by when that ends; the items. ARGV: now in ms;
-- the lease in ms; who claims; how many at most, and how many bytes; '1' where a claim counts as a try. Answers the items, each id, due,
-- first seen, tries, claims before, event; when the next one is due, or ''; in how many ms a claim ends, or ''. Claims are by the
-- server's clock, which every process has in common.
local due, claimed, items = KEYS[1], KEYS[2], KEYS[3]
local now, lease, holder, max, bytes_max, counts = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local time = redis.call('TIME')
local server = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', claimed, '-inf', server, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', claimed, id)
  redis.call('HDEL', items, id .. ':holder')
  redis.call('ZADD', due, redis.call('HGET', items, id .. ':due') or now, id)
end
local out, bytes = {}, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, max)) do
  if bytes >= bytes_max then break end
  local event = redis.call('HGET', items, id .. ':event')
  local at = redis.call('ZSCORE', due, id)
  redis.call('ZREM', due, id)
  if event then
    bytes = bytes + #event
    local kept = redis.call('HMGET', items, id .. ':seen', id .. ':tries', id .. ':claims')
    redis.call('ZADD', claimed, server + lease, id)
    redis.call('HSET', items, id .. ':holder', holder, id .. ':due', at)
    if counts == '1' then redis.call('HINCRBY', items, id .. ':claims', 1) end
    out[#out + 1] = { id, at, kept[1] or '0', kept[2] or '{}', kept[3] or '0', event }
  end
end
local next = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2] or ''
local ends = redis.call('ZRANGE', claimed, 0, 0, 'WITHSCORES')[2]
return { out, next, ends and string.format('%.0f', math.max(tonumber(ends) - server, 0)) or '' }
