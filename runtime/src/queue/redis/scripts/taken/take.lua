-- Takes messages: what others let lapse, what is due, then what is new. Arguments: how many, how many bytes at most. Answers messages as {id,
-- body, failed, outside, since, seen}, when the next one is due, or '', and `other` when only another process may read.
local count, bytes = tonumber(ARGV[7]), tonumber(ARGV[8])
local ends = server_ms() + lease

-- What a script has done before it fails stays done: nothing is taken that can't be kept.
for at, expected in ipairs({ 'hash', 'hash', 'zset', 'zset', 'string', 'hash', 'list', 'string' }) do
  local found = redis.call('TYPE', KEYS[at + 1]).ok
  if found ~= expected and found ~= 'none' then
    return redis.error_reply('WRONGTYPE of a key beside the list')
  end
end

local out = {}

-- Lets somebody's messages come again, in their order and before anything new.
local function let_go(ids)
  for _, id in ipairs(ids) do
    local s = state(id)
    if s then
      s.failed = s.killed
      wait(id, s, 0)
    else
      forget(id)
    end
  end
end

if ordered then
  local holder = redis.call('GET', reader)
  if holder and holder ~= consumer then
    return { {}, '', 'other' }
  end
  if not holder then
    redis.call('SET', reader, consumer, 'PX', lease)
    -- Whatever the last reader had.
    let_go(redis.call('ZRANGE', leases, 0, -1))
  else
    let_go(redis.call('ZRANGEBYSCORE', leases, '-inf', ends - lease))
  end
end

local function hand(id, body, s)
  s.holder, s.killed = consumer, s.failed + 1
  keep(id, s)
  redis.call('ZADD', leases, ends, id)
  bytes = bytes - #body
  out[#out + 1] = { id, body, s.failed, s.outside, s.since, s.seen }
end

local function again(id)
  local s, body = state(id), redis.call('HGET', taken, id)
  if s and body then
    hand(id, body, s)
    return
  end
  -- Somebody removed a part of it.
  forget(id)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', ends - lease, 'LIMIT', 0, count)) do
  if bytes > 0 then
    local s = state(id)
    if s then
      -- Its holder may have run it: that counts as a try, unless it said otherwise.
      s.failed = s.killed
      keep(id, s)
    end
    again(id)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, count - #out)) do
  if bytes > 0 then
    redis.call('ZREM', later, id)
    again(id)
  end
end

local remembers = redis.call('HLEN', known) > 0
-- What was given back has the id and tries that it had; equal bodies are as good as each other.
local function recall(body)
  local hash = redis.sha1hex(body)
  local marks = redis.call('HGET', known, hash)
  if not marks then
    return nil
  end
  local first, rest = string.match(marks, '^([^;]*);(.*)$')
  if rest == '' then
    redis.call('HDEL', known, hash)
  else
    redis.call('HSET', known, hash, rest)
  end
  local id, failed, outside, since, seen = string.match(first, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  -- Not when it is in hand: then this is another one.
  if not id or redis.call('HEXISTS', taken, id) == 1 then
    return nil
  end
  return id, { failed = tonumber(failed), outside = outside, since = since, seen = seen }
end

local function fresh(body, score)
  local id, s
  if remembers then
    id, s = recall(body)
  end
  if not id then
    local due = score and tonumber(score) * unit or 0
    id, s = new_id(), { failed = 0, outside = '0', since = '-', seen = due > 0 and string.format("%.0f", math.floor(due + 0.5)) or now }
  end
  s.score = score or '0'
  redis.call('HSET', taken, id, body)
  hand(id, body, s)
end

if kind == 'zset' then
  -- Scores are numbers of the source; the time is given in milliseconds.
  local until_now = string.format('%.17g', tonumber(now) / unit)
  while #out < count and bytes > 0 do
    local due = redis.call('ZRANGEBYSCORE', source, '-inf', until_now, 'WITHSCORES', 'LIMIT', 0, math.min(count - #out, 100))
    if #due == 0 then
      break
    end
    for at = 1, #due, 2 do
      if bytes > 0 then
        redis.call('ZREM', source, due[at])
        fresh(due[at], due[at + 1])
      end
    end
  end
else
  local pop = kind == 'right' and 'RPOP' or 'LPOP'
  while #out < count and bytes > 0 do
    local body = redis.call('RPOP', woken) or redis.call(pop, source)
    if not body then
      break
    end
    fresh(body)
  end
end

local next_due = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')[2]
if kind == 'zset' then
  local first = redis.call('ZRANGE', source, 0, 0, 'WITHSCORES')[2]
  local first_ms = first and tonumber(first) * unit
  if first_ms and (not next_due or first_ms < tonumber(next_due)) then
    next_due = string.format('%.0f', math.ceil(first_ms))
  end
end
return { out, next_due or '', '' }
