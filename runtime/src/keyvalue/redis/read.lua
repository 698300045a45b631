-- Values of a bucket, unless they are too many bytes. KEYS: its values. ARGV: most bytes; then the keys. Answers the values in order, nil
-- where there is none; or nil instead of them all.
local left = tonumber(ARGV[1])
for at = 2, #ARGV do
  left = left - redis.call('HSTRLEN', KEYS[1], ARGV[at])
  if left < 0 then return false end
end
return redis.call('HMGET', KEYS[1], unpack(ARGV, 2))
