-- Renews leases. Arguments: ids. Answers those that are no longer ours.
local ours, gone = {}, {}
for at = 4, #ARGV do
  local id = ARGV[at]
  if redis.call('XPENDING', stream, group, id, id, 1, consumer)[1] then
    ours[#ours + 1] = id
  else
    gone[#gone + 1] = id
  end
end
if #ours > 0 then
  ours[#ours + 1] = 'JUSTID'
  redis.call('XCLAIM', stream, group, consumer, 0, unpack(ours))
end
return gone
