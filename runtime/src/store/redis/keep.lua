-- Keeps that deliveries have ended. KEYS: those that ended, by when they are forgotten; then one of each event. ARGV: now and the
-- window in ms; how many are kept; then of each who ended. Answers how many were forgotten before their time.
local now, window, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ends = string.format('%.0f', now + window)
for at = 2, #KEYS do
  redis.call('SET', KEYS[at], 'ended ' .. ends .. ' ' .. ARGV[at + 2], 'PX', window)
  redis.call('ZADD', KEYS[1], ends, KEYS[at])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local over = math.min(redis.call('ZCARD', KEYS[1]) - most, 1000 + #KEYS)
if over <= 0 then return 0 end
local oldest = redis.call('ZPOPMIN', KEYS[1], over)
for at = 1, #oldest, 2 do redis.call('DEL', oldest[at]) end
return over
