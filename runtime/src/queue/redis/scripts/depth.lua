-- What waits. Keys: stream, delayed. Argument: what the keys of waiting retries begin with. Answers the stream's length, how many are
-- delayed and when the first is due, and for each group its name, pending, lag (-1: not known), waiting, and the ids of the
-- oldest that is pending and of the first that is not read.
local groups, length = {}, 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  length = redis.call('XLEN', KEYS[1])
  for at, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for field = 1, #flat, 2 do
      group[flat[field]] = flat[field + 1]
    end
    local oldest = ''
    if group.pending > 0 then
      oldest = redis.call('XPENDING', KEYS[1], group.name)[2] or ''
    end
    local unread = redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
    local waiting = redis.call('ZCARD', ARGV[1] .. group.name)
    groups[at] = { group.name, group.pending, group.lag or (unread and -1 or 0), waiting, oldest, unread and unread[1] or '' }
  end
end
local due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or ''
return { length, redis.call('ZCARD', KEYS[2]), due, groups }
