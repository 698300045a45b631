-- What waits: in the list or sorted set, taken or waiting for its time, leased, and the first score of a sorted set, or ''.
local waits, first = 0, ''
if kind == 'zset' then
  waits = redis.call('ZCARD', source)
  first = redis.call('ZRANGE', source, 0, 0, 'WITHSCORES')[2] or ''
else
  waits = redis.call('LLEN', source) + redis.call('LLEN', woken)
end
return { waits, redis.call('HLEN', taken), redis.call('ZCARD', leases), first }
