-- ARGV: ids. Answers how many there were.
local count = 0
for _, id in ipairs(ARGV) do
  if removed(id) then count = count + 1 end
end
return count
