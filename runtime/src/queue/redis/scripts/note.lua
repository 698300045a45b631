-- Notes tries of what is ours, for the case that we are killed: whoever finds it lapsed adds one. Arguments in threes: id, failed, packed.
for at = 4, #ARGV, 3 do
  local id = ARGV[at]
  if redis.call('XPENDING', stream, group, id, id, 1, consumer)[1] then
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', ARGV[at + 1], 'JUSTID')
    redis.call('HSET', tries, id, ARGV[at + 2])
  end
end
