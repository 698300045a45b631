-- What is ours as the server has it: ids.
local mine = {}
for _, id in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
  local s = state(id)
  if s and s.holder == consumer then
    mine[#mine + 1] = id
  end
end
return mine
