-- Keeps items until they are due, all or none. KEYS: by when they are due; those that are claimed; the items; the shelves of the queue.
-- ARGV: this shelf; how many, and how many bytes, it may hold; what each counts for beside its event; then of each id, due, first seen,
-- tries, event. Answers 1, or 0 with what is held.
local due, claimed, items, shelves = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local events_max, bytes_max, overhead = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local events = redis.call('ZCARD', due) + redis.call('ZCARD', claimed)
local bytes = tonumber(redis.call('HGET', items, 'bytes') or '0')
local more = 0
for at = 5, #ARGV, 5 do more = more + #ARGV[at + 4] + overhead end
if events + (#ARGV - 4) / 5 > events_max or bytes + more > bytes_max then return { 0, events, bytes } end
for at = 5, #ARGV, 5 do
  local id = ARGV[at]
  local before = redis.call('HSTRLEN', items, id .. ':event')
  if before > 0 then more = more - before - overhead end
  redis.call('HSET', items, id .. ':event', ARGV[at + 4], id .. ':seen', ARGV[at + 2], id .. ':tries', ARGV[at + 3])
  redis.call('HDEL', items, id .. ':claims', id .. ':holder')
  redis.call('ZREM', claimed, id)
  redis.call('ZADD', due, ARGV[at + 1], id)
end
redis.call('HINCRBY', items, 'bytes', string.format('%.0f', more))
redis.call('SADD', shelves, ARGV[1])
return { 1, 0, 0 }
