-- Gives up claims. KEYS: one of each event. ARGV: of each who claimed it.
for at, key in ipairs(KEYS) do
  if redis.call('GET', key) == 'claimed ' .. ARGV[at] then redis.call('DEL', key) end
end
return 1
