-- Lets another process read.
if redis.call('GET', reader) == consumer then
  redis.call('DEL', reader)
end
