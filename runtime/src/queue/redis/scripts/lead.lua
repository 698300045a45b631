-- Becomes or stays the one reader of a group. Argument: lease. Answers 'new', 'kept', or 'other'.
local holder = redis.call('GET', reader)
if holder == token then
  redis.call('PEXPIRE', reader, ARGV[4])
  return 'kept'
end
if holder then
  return 'other'
end
redis.call('SET', reader, token, 'PX', ARGV[4])
return 'new'
