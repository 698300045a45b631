-- Renews claims. KEYS: those that are claimed; the items. ARGV: the lease in ms; who has claimed; ids. Answers the ids that are not theirs.
local time = redis.call('TIME')
local ends = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[1])
local gone = {}
for at = 3, #ARGV do
  local id = ARGV[at]
  if redis.call('HGET', KEYS[2], id .. ':holder') == ARGV[2] and redis.call('ZSCORE', KEYS[1], id) then
    redis.call('ZADD', KEYS[1], 'XX', ends, id)
  else
    gone[#gone + 1] = id
  end
end
return gone
