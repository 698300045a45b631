-- One change of a bucket, all of it or nothing. KEYS: values by key; keys by the number with which they came; the next number and the
-- bytes. ARGV: most bytes; most keys; what an entry counts for beside its texts; then 'put' and of each key the key, '1' or '0' whether
-- it has a value, and the value; or 'increment', a key and what is added; or 'swap', a key, '1' or '0' whether a value has to be there,
-- that value, and the new one.
-- Answers 'done'; 'number' and it; 'stale' and the value that is there, if any; 'full', keys and bytes as they would be; 'no number';
-- 'beyond'.
local values, order, counts = KEYS[1], KEYS[2], KEYS[3]
local most_bytes, most_keys, entry = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kind = ARGV[4]

-- Of each key what it becomes; false: it is removed. In the order of the call, each once, the last value of it.
local keys, becomes = {}, {}
local function change(key, value)
  if becomes[key] == nil then keys[#keys + 1] = key end
  becomes[key] = value
end

local answer = { 'done' }
if kind == 'put' then
  for at = 5, #ARGV, 3 do
    if ARGV[at + 1] == '1' then change(ARGV[at], ARGV[at + 2]) else change(ARGV[at], false) end
  end
elseif kind == 'increment' then
  local key = ARGV[5]
  local before = redis.call('HGET', values, key)
  local added = redis.pcall('HINCRBY', values, key, ARGV[6])
  if type(added) == 'table' then
    if string.find(added.err, 'overflow') then return { 'beyond' } end
    if string.find(added.err, 'not an integer') then return { 'no number' } end
    return added
  end
  -- Read as text: a number of Lua would lose its last digits.
  local sum = redis.call('HGET', values, key)
  -- Put back, so that it is changed like all others, once there is room.
  if before then redis.call('HSET', values, key, before) else redis.call('HDEL', values, key) end
  change(key, sum)
  answer = { 'number', sum }
else
  local found = redis.call('HGET', values, ARGV[5])
  local expected = ARGV[6] == '1' and ARGV[7]
  if found ~= expected then
    if found then return { 'stale', found } end
    return { 'stale' }
  end
  change(ARGV[5], ARGV[8])
end

local had_keys = redis.call('ZCARD', order)
local had_bytes = tonumber(redis.call('HGET', counts, 'bytes') or '0')
local now_keys, now_bytes = had_keys, had_bytes
for _, key in ipairs(keys) do
  if redis.call('HEXISTS', values, key) == 1 then
    now_keys = now_keys - 1
    now_bytes = now_bytes - #key - redis.call('HSTRLEN', values, key) - entry
  end
  local value = becomes[key]
  if value then
    now_keys = now_keys + 1
    now_bytes = now_bytes + #key + #value + entry
  end
end
if (now_bytes > most_bytes and now_bytes > had_bytes) or (now_keys > most_keys and now_keys > had_keys) then
  return { 'full', tostring(now_keys), string.format('%.0f', now_bytes) }
end

for _, key in ipairs(keys) do
  local value = becomes[key]
  if not value then
    redis.call('HDEL', values, key)
    redis.call('ZREM', order, key)
  else
    if redis.call('HSET', values, key, value) == 1 then
      redis.call('ZADD', order, redis.call('HINCRBY', counts, 'next', 1), key)
    end
  end
end
if now_bytes ~= had_bytes then redis.call('HSET', counts, 'bytes', string.format('%.0f', now_bytes)) end
return answer
