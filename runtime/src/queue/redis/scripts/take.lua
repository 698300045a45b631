-- Takes entries again that were given to us and whose answer got lost, as they are. Arguments: pairs of id and failed tries.
if fenced() then
  return { 'lost' }
end
for at = 4, #ARGV, 2 do
  local id = ARGV[at]
  local pending = redis.call('XPENDING', stream, group, id, id, 1, consumer)
  if pending[1] then
    add(id, tonumber(ARGV[at + 1]), redis.call('HGET', tries, id))
  end
end
return { 'ok', taken, vanished, '' }
