-- Ends what still waits for another try. Arguments: its members of `retry`. Answers how many.
local ended = 0
for at = 4, #ARGV do
  local id = unpad(ARGV[at])
  local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if pending and pending[2] == WAITING and redis.call('ZREM', retry, ARGV[at]) == 1 then
    redis.call('XACK', stream, group, id)
    redis.call('HDEL', tries, id)
    ended = ended + 1
  end
end
return ended
