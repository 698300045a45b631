-- ARGV: as `pruned` takes them; then of each letter: id, when it was given up in ms, queue, handler, outcome, reason, letter.
for at = 5, #ARGV, 7 do
  local id, dead_at, queue, letter = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 6]
  removed(id)
  local entry = redis.call('XADD', STREAM, '*', 'id', id, 'letter', letter)
  local known = { entry = entry, bytes = #letter, queue = queue, handler = ARGV[at + 3], outcome = ARGV[at + 4], reason = ARGV[at + 5] }
  redis.call('HSET', IDS, id, cjson.encode(known))
  redis.call('ZADD', TIMES, dead_at, id)
  counted(queue, 1, #letter)
end
return pruned()
