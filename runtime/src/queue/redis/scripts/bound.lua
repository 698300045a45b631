-- The oldest id of a stream that some group still needs: what lies before it, every group has acknowledged and passed. Nothing when
-- there is no group, or ids are larger than Lua's numbers are exact.
local function bound(stream, groups)
  local oldest_ms, oldest_seq
  for _, flat in ipairs(groups) do
    local group = {}
    for at = 1, #flat, 2 do
      group[flat[at]] = flat[at + 1]
    end
    local id, add = group['last-delivered-id'], 1
    if group.pending > 0 then
      id, add = redis.call('XPENDING', stream, group.name)[2], 0
    end
    local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
    if #ms > 15 or #seq > 15 then
      return nil
    end
    ms, seq = tonumber(ms), tonumber(seq) + add
    if not oldest_ms or ms < oldest_ms or (ms == oldest_ms and seq < oldest_seq) then
      oldest_ms, oldest_seq = ms, seq
    end
  end
  return oldest_ms and string.format('%.0f-%.0f', oldest_ms, oldest_seq)
end
