-- Changes items. KEYS: by when they are due; those that are claimed; the items; the shelves of the queue. ARGV: this shelf; who changes;
-- what each counts for beside its event; then of each id, what ('remove', 'back', 'note'), due, tries. Answers the ids that another one
-- has claimed; those are left.
local due, claimed, items, shelves = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local holder, overhead, late = ARGV[2], tonumber(ARGV[3]), {}
local time = redis.call('TIME')
local server = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for at = 4, #ARGV, 4 do
  local id, what = ARGV[at], ARGV[at + 1]
  local ends, by = tonumber(redis.call('ZSCORE', claimed, id) or '0'), redis.call('HGET', items, id .. ':holder')
  local length = redis.call('HSTRLEN', items, id .. ':event')
  if ends > server and by and by ~= holder then
    late[#late + 1] = id
  elseif length == 0 then
    redis.call('ZREM', claimed, id)
  elseif what == 'remove' then
    redis.call('ZREM', claimed, id)
    redis.call('ZREM', due, id)
    redis.call('HDEL', items, id .. ':event', id .. ':seen', id .. ':tries', id .. ':claims', id .. ':holder', id .. ':due')
    redis.call('HINCRBY', items, 'bytes', -length - overhead)
  else
    redis.call('HSET', items, id .. ':tries', ARGV[at + 3])
    redis.call('HDEL', items, id .. ':claims')
    if what == 'back' then
      redis.call('ZREM', claimed, id)
      redis.call('HDEL', items, id .. ':holder', id .. ':due')
      redis.call('ZADD', due, ARGV[at + 2], id)
    end
  end
end
if redis.call('ZCARD', due) + redis.call('ZCARD', claimed) == 0 then
  redis.call('DEL', items)
  redis.call('SREM', shelves, ARGV[1])
end
return late
