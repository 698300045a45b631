-- Reads what is new for the one process that may. Argument: count. With nothing new, answers the stream's last id: what comes later
-- can be waited for by it.
if fenced() then
  return { 'lost' }
end
local answer = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', ARGV[4], 'STREAMS', stream, '>')
if answer then
  for at, entry in ipairs(answer[1][2]) do
    taken[at] = { entry[1], entry[2], 0, '' }
  end
  return { 'ok', taken, 0, '' }
end
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
return { 'ok', {}, 0, last and last[1] or '0-0' }
