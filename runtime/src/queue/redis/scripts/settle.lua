-- Ends or lets wait what is still ours. Arguments in fours: `ack` or `wait`, id, due, and what is kept of its tries: `=` as it is, ''
-- nothing, else packed. Answers the ids that are no longer ours.
local late = {}
for at = 4, #ARGV, 4 do
  local what, id, due, packed = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local member = pad(id)
  local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
  local holder = pending and pending[2]
  if what == 'ack' then
    if holder == consumer then
      redis.call('XACK', stream, group, id)
      redis.call('HDEL', tries, id)
    elseif holder then
      late[#late + 1] = id
    end
  elseif holder == consumer then
    -- No answer: it was trimmed away meanwhile, and nothing can wait.
    if redis.call('XCLAIM', stream, group, WAITING, 0, id, 'JUSTID')[1] then
      redis.call('ZADD', retry, due, member)
      if packed == '' then
        redis.call('HDEL', tries, id)
      elseif packed ~= '=' then
        redis.call('HSET', tries, id, packed)
      end
    end
  elseif not (holder == WAITING and tonumber(redis.call('ZSCORE', retry, member) or -1) == tonumber(due)) then
    -- Else this is the repetition of a call whose answer got lost.
    late[#late + 1] = id
  end
end
return late
