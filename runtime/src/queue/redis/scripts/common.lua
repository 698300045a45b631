-- What the scripts share. In front of each: keys are stream, retry, tries, reader, in this order; arguments begin with group, consumer
-- and the reader's token ('' for who needs none).
local stream, retry, tries, reader = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, token = ARGV[1], ARGV[2], ARGV[3]

-- The consumer under which entries stand that wait for another try: nobody reads as it, so that nobody takes them for lapsed.
local WAITING = 'weir:waiting'

-- Whether another process reads this group now.
local function fenced()
  return token ~= '' and redis.call('GET', reader) ~= token
end

-- Members of `retry` are ids padded with zeros, so that equal times sort by id.
local function unpad(member)
  local ms, seq = string.match(member, '^0*(%d+)%-0*(%d+)$')
  return ms .. '-' .. seq
end

local function pad(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end

local function fields(flat)
  local map = {}
  for at = 1, #flat, 2 do
    map[flat[at]] = flat[at + 1]
  end
  return map
end

-- The failed tries in a packed `failed:outside:since`.
local function failed_in(packed)
  return packed and tonumber(string.match(packed, '^(%d+):')) or 0
end

-- Makes an entry ours, with this many tries behind it. Answers {id, fields, failed, packed}, or nothing when it was trimmed or is no
-- longer pending: then it is forgotten.
local function take(id, failed, packed)
  local entry = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', failed + 1)[1]
  if entry then
    return { entry[1], entry[2], failed, packed or '' }
  end
  redis.call('XACK', stream, group, id)
  redis.call('HDEL', tries, id)
end

-- What is answered: entries that are ours now, and how many vanished.
local taken, vanished = {}, 0

local function add(id, failed, packed)
  local entry = take(id, failed, packed)
  if entry then
    taken[#taken + 1] = entry
  else
    vanished = vanished + 1
  end
end
