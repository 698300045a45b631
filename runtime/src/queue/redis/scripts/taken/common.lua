-- What the scripts of lists and sorted sets share. In front of each: keys are the list or sorted set, taken, tries, leases, later, next,
-- known, woken, reader, in this order; arguments begin with the consumer, the time, the lease, what is read (`right`, `left`, `zset`), the
-- milliseconds of one unit of a score, and whether one process reads at a time.
local source, taken, tries, leases, later, counter, known, woken, reader = unpack(KEYS)
local consumer, now, lease, kind, unit = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local ordered = ARGV[6] == '1'

-- How long what was given back is remembered by its body, and how many bodies: what another program takes is never asked for again.
local KNOWN_MS, KNOWN_MAX = 24 * 3600 * 1000, 100000

-- Leases follow the server's clock, which all processes share.
local function server_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Who has a message (`-`: it waits), the tries that failed, outside failures and since when (`-`: none), when it was first seen, the tries
-- that failed if its holder is killed now, and its score.
local function state(id)
  local text = redis.call('HGET', tries, id)
  if not text then
    return nil
  end
  local holder, failed, outside, since, seen, killed, score =
    string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  return { holder = holder, failed = tonumber(failed), outside = outside, since = since, seen = seen, killed = tonumber(killed), score = score }
end

local function keep(id, s)
  redis.call('HSET', tries, id, string.format('%s %.0f %s %s %s %.0f %s',
    s.holder, s.failed, s.outside, s.since, s.seen, s.killed, s.score))
end

local function new_id()
  return string.format('%.0f-%012.0f', server_ms(), redis.call('INCR', counter))
end

local function forget(id)
  redis.call('HDEL', taken, id)
  redis.call('HDEL', tries, id)
  redis.call('ZREM', leases, id)
  redis.call('ZREM', later, id)
end

-- Keeps what is not due, or can't go where it came from.
local function wait(id, s, due)
  s.holder, s.killed = '-', s.failed
  redis.call('ZADD', later, due, id)
  keep(id, s)
  redis.call('ZREM', leases, id)
end

-- What was taken from goes back to its place.
local function put_back(body, score)
  if kind == 'right' then
    redis.call('RPUSH', source, body)
  elseif kind == 'left' then
    redis.call('LPUSH', source, body)
  else
    redis.call('ZADD', source, score, body)
  end
end
