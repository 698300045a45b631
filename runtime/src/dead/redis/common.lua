-- Dead letters of one place. KEYS: the stream of letters; id -> what is known of it (JSON); ids by when they were given up; counts.
-- Every script that changes something begins with this text.

local STREAM, IDS, TIMES, COUNTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function counted(queue, held, bytes)
  redis.call('HINCRBY', COUNTS, 'held:' .. queue, held)
  redis.call('HINCRBY', COUNTS, 'bytes:' .. queue, bytes)
  redis.call('HINCRBY', COUNTS, 'bytes', bytes)
end

-- Takes a letter out; what was known of it, or nothing.
local function removed(id)
  redis.call('ZREM', TIMES, id)
  local known = redis.call('HGET', IDS, id)
  if not known then return nil end
  known = cjson.decode(known)
  redis.call('HDEL', IDS, id)
  redis.call('XDEL', STREAM, known.entry)
  counted(known.queue, -1, -known.bytes)
  return known
end

-- Drops the oldest that are too old or too many, at most so many in one call; how many. The first arguments of a script that calls it:
-- now and keep in ms, most bytes, most to drop.
local function pruned()
  local now, keep, bytes_max, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
  for count = 0, most - 1 do
    local oldest = redis.call('ZRANGE', TIMES, 0, 0, 'WITHSCORES')
    local bytes = tonumber(redis.call('HGET', COUNTS, 'bytes') or 0)
    local young = oldest[1] and now - tonumber(oldest[2]) <= keep
    if not oldest[1] or (young and (bytes <= bytes_max or redis.call('ZCARD', TIMES) == 1)) then return count end
    local known = removed(oldest[1])
    if known then redis.call('HINCRBY', COUNTS, 'dropped:' .. known.queue, 1) end
  end
  return most
end
