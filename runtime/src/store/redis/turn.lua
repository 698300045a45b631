-- The next turn of a rate, taken if it comes soon enough. KEYS: the last turns in microseconds, oldest first. ARGV: how many turns in
-- how many microseconds; how long the caller waits; now. Answers whether it was taken, and how far ahead it is.
local count, per, bound, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local turn = now
local oldest = redis.call('LINDEX', KEYS[1], -count)
if oldest then turn = math.max(now, tonumber(oldest) + per) end
if turn - now > bound then return { 0, turn - now } end
redis.call('RPUSH', KEYS[1], string.format('%.0f', turn))
redis.call('LTRIM', KEYS[1], -count, -1)
redis.call('PEXPIRE', KEYS[1], math.ceil((turn - now + per) / 1000) + 1000)
return { 1, turn - now }
