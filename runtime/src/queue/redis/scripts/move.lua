-- Adds to the stream what is due of the delayed publishes. Keys: delayed, stream. Arguments: now, count, maxlen or '', the id of
-- what is added.
-- Members begin with 16 bytes that make them differ and keep their order. Answers when the next one is due, or ''.
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])) do
  local event = string.sub(member, 17)
  if ARGV[3] == '' then
    redis.call('XADD', KEYS[2], ARGV[4], 'event', event)
  else
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], ARGV[4], 'event', event)
  end
  redis.call('ZREM', KEYS[1], member)
end
return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or ''
