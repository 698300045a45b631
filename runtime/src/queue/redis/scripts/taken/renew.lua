-- Renews leases, and that we are the one who reads. Arguments: ids. Answers those that are no longer ours.
local ends, gone = server_ms() + lease, {}
if ordered and redis.call('GET', reader) == consumer then
  redis.call('PEXPIRE', reader, lease)
end
for at = 7, #ARGV do
  local s = state(ARGV[at])
  if s and s.holder == consumer then
    redis.call('ZADD', leases, ends, ARGV[at])
  else
    gone[#gone + 1] = ARGV[at]
  end
end
return gone
