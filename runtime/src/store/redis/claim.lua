-- Claims events for deliveries. KEYS: one of each event. ARGV: the lease in ms; then of each delivery '1' or '0', whether its broker
-- has a stable position for it, and who it is. Answers of each -1: it may run; -2: the event has ended; else the ms until the claim
-- of another delivery lapses.
local answers = {}
for at, key in ipairs(KEYS) do
  local stable, who = ARGV[2 * at] == '1', ARGV[2 * at + 1]
  local held = redis.call('GET', key)
  local answer
  if not held then
    redis.call('SET', key, 'claimed ' .. who, 'PX', ARGV[1])
    answer = -1
  elseif held == 'claimed ' .. who then
    redis.call('PEXPIRE', key, ARGV[1])
    answer = -1
  elseif string.sub(held, 1, 6) == 'ended ' then
    answer = (stable and held == 'ended ' .. who) and -1 or -2
  else
    answer = math.max(redis.call('PTTL', key), 0)
  end
  answers[at] = answer
end
return answers
