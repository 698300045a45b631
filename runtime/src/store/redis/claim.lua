-- Claims events for deliveries. KEYS: one of each event. ARGV: now and the lease in ms; then of each delivery '1' or '0', whether its
-- broker has a stable position for it, and who it is. Answers of each -1: it may run; -2: the event has ended; else the ms until the
-- claim of another delivery lapses. A lease is by the server's clock, which every process has in common.
local now, lease = tonumber(ARGV[1]), ARGV[2]
local answers = {}
for at, key in ipairs(KEYS) do
  local stable, who = ARGV[2 * at + 1] == '1', ARGV[2 * at + 2]
  local held = redis.call('GET', key)
  -- `ended`, until when that is known, and who.
  local until_ms, ended = string.match(held or '', '^ended (%d+) (.*)$')
  if ended and tonumber(until_ms) <= now then held = nil end
  local answer
  if not held then
    redis.call('SET', key, 'claimed ' .. who, 'PX', lease)
    answer = -1
  elseif held == 'claimed ' .. who then
    redis.call('PEXPIRE', key, lease)
    answer = -1
  elseif ended then
    answer = (stable and ended == who) and -1 or -2
  else
    answer = math.max(redis.call('PTTL', key), 0)
  end
  answers[at] = answer
end
return answers
