-- Shows what waits for its time. Keys: the sorted set, the stream. Arguments: due from, count, whether members are ids of entries.
-- Answers {due, member, {id, names and values}} each; an entry that was trimmed away is left out.
local found = {}
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for at = 1, #rows, 2 do
  if ARGV[3] == '0' then
    found[#found + 1] = { rows[at + 1], rows[at], {} }
  else
    local ms, seq = string.match(rows[at], '^0*(%d+)%-0*(%d+)$')
    local entry = redis.call('XRANGE', KEYS[2], ms .. '-' .. seq, ms .. '-' .. seq)[1]
    if entry then
      local parts = { entry[1] }
      for _, part in ipairs(entry[2]) do
        parts[#parts + 1] = part
      end
      found[#found + 1] = { rows[at + 1], rows[at], parts }
    end
  end
end
return found
