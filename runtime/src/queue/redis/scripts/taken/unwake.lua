-- Puts what woke us, and nobody here asks for any more, back to its place. The newest stands on the left.
local body = redis.call('LPOP', woken)
while body do
  put_back(body)
  body = redis.call('LPOP', woken)
end
