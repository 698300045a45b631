-- KEYS as in common.lua. ARGV: id. Answers nothing, or the letter, which is empty when its entry is gone from the stream.
local known = redis.call('HGET', KEYS[2], ARGV[1])
if not known then return false end
local entry = cjson.decode(known).entry
local found = redis.call('XRANGE', KEYS[1], entry, entry)[1]
return found and found[2][4] or ''
