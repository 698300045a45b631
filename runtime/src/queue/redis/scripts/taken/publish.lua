-- Adds a batch. Arguments in pairs: when each is due ('': at once), body.
for at = 7, #ARGV, 2 do
  local due, body = ARGV[at], ARGV[at + 1]
  if kind == 'zset' then
    local score = string.format('%.17g', tonumber(due == '' and now or due) / unit)
    -- Members are unique, messages need not be: blanks behind JSON mean nothing.
    local added, blanks = redis.call('ZADD', source, 'NX', score, body), 0
    while added == 0 and blanks < 100 do
      body, blanks = body .. ' ', blanks + 1
      added = redis.call('ZADD', source, 'NX', score, body)
    end
    if added == 0 then
      local id, at_ms = new_id(), due == '' and now or due
      wait(id, { failed = 0, outside = '0', since = '-', seen = at_ms, score = score }, at_ms)
      redis.call('HSET', taken, id, body)
    end
  elseif due == '' then
    redis.call(kind == 'right' and 'LPUSH' or 'RPUSH', source, body)
  else
    local id = new_id()
    wait(id, { failed = 0, outside = '0', since = '-', seen = due, score = '0' }, due)
    redis.call('HSET', taken, id, body)
  end
end
