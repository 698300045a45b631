-- Ends, lets wait or gives back what is still ours. Arguments in sixes: `ack`, `wait` or `back`, id, due, and of its tries failed, outside,
-- since. Answers the ids that are no longer ours.
local late = {}
for at = 7, #ARGV, 6 do
  local what, id, due = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local s = state(id)
  if s and s.holder == consumer then
    if what == 'ack' then
      forget(id)
    elseif what == 'wait' then
      s.failed, s.outside, s.since = tonumber(ARGV[at + 3]), ARGV[at + 4], ARGV[at + 5]
      wait(id, s, due)
    else
      local body = redis.call('HGET', taken, id)
      if body and ordered then
        -- Whoever reads next takes it first, in its place.
        wait(id, s, 0)
      elseif body and kind == 'zset' and redis.call('ZSCORE', source, body) then
        -- An equal one was added meanwhile: both are kept.
        wait(id, s, now)
      elseif body then
        local hash = redis.sha1hex(body)
        local marks = redis.call('HGET', known, hash) or ''
        if redis.call('HLEN', known) >= KNOWN_MAX then
          redis.call('DEL', known)
          marks = ''
        end
        local mark = string.format('%s %.0f %s %s %s;', id, s.failed, s.outside, s.since, s.seen)
        -- The one that was given back last stands at the end and is taken first.
        redis.call('HSET', known, hash, mark .. marks)
        redis.call('PEXPIRE', known, KNOWN_MS)
        put_back(body, s.score)
        forget(id)
      else
        forget(id)
      end
    end
  elseif s and not (what == 'wait' and s.holder == '-' and tonumber(redis.call('ZSCORE', later, id) or -1) == tonumber(due)) then
    -- Else this is the repetition of a call whose answer got lost; so is one for what is not there.
    late[#late + 1] = id
  end
end
return late
