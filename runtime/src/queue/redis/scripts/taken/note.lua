-- Notes the tries behind what is ours for the case that we are killed. Arguments in pairs: id, failed.
for at = 7, #ARGV, 2 do
  local s = state(ARGV[at])
  if s and s.holder == consumer then
    s.killed = tonumber(ARGV[at + 1])
    keep(ARGV[at], s)
  end
end
