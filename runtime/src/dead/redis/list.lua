-- One part of a list, newest first. KEYS as in common.lua.
-- ARGV: the place after which it begins (when in ms or '+inf', id); most letters, bytes and places looked at; queue, handler ('': any);
-- reason, and whether it is asked for.
-- Answers where it stopped (when, id; '' when that was the end) and of each letter its id, when, queue and text, which is empty when
-- its entry is gone from the stream.
local from, from_id, most, bytes_most, looked_most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local queue, handler, reason, by_reason = ARGV[6], ARGV[7], ARGV[8], ARGV[9] == '1'
local STEP = 100

-- The order of a sorted set among equal scores: by bytes, where Lua's own would ask the locale.
local function before(one, other)
  for at = 1, math.min(#one, #other) do
    local left, right = string.byte(one, at), string.byte(other, at)
    if left ~= right then return left < right end
  end
  return #one < #other
end

local function meant(known)
  if queue ~= '' and known.queue ~= queue then return false end
  if handler ~= '' and known.handler ~= handler then return false end
  return not by_reason or known.outcome == reason or string.find(known.reason, reason, 1, true) ~= nil
end

local letters, bytes, looked, offset = {}, 0, 0, 0
local stopped_at, stopped_id = '', ''
while true do
  local rows = redis.call('ZREVRANGEBYSCORE', KEYS[3], from, '-inf', 'WITHSCORES', 'LIMIT', offset, STEP)
  if #rows == 0 then return { '', '', letters } end
  for at = 1, #rows, 2 do
    local id, when = rows[at], rows[at + 1]
    if when ~= from or before(id, from_id) then
      if #letters >= most or bytes > bytes_most or looked >= looked_most then return { stopped_at, stopped_id, letters } end
      looked = looked + 1
      stopped_at, stopped_id = when, id
      local known = redis.call('HGET', KEYS[2], id)
      known = known and cjson.decode(known)
      if known and meant(known) then
        local found = redis.call('XRANGE', KEYS[1], known.entry, known.entry)[1]
        local letter = found and found[2][4] or ''
        bytes = bytes + #letter
        letters[#letters + 1] = { id, when, known.queue, letter }
      end
    end
  end
  offset = offset + STEP
end
