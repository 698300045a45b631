-- Leaves a group: gives up reading, and takes the consumer away when it holds nothing.
if redis.call('GET', reader) == token then
  redis.call('DEL', reader)
end
if redis.call('EXISTS', stream) == 1 and not redis.call('XPENDING', stream, group, '-', '+', 1, consumer)[1] then
  redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
end
