-- Removes a shelf. KEYS: by when items are due; those that are claimed; the items; the shelves of the queue. ARGV: this shelf. Answers how
-- many items it had.
local count = redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2])
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('UNLINK', KEYS[3])
redis.call('SREM', KEYS[4], ARGV[1])
return count
