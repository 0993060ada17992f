-- Removes an agent's group, so that it holds nothing back. KEYS: the stream. ARGV: the group.
-- Returns {1 if there was one, messages delivered and not acknowledged, messages not delivered; at most 1,000 are counted}.
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then
  return {0, 0, 0}
end
for _, flat in ipairs(groups) do
  local group = {}
  for at = 1, #flat, 2 do
    group[flat[at]] = flat[at + 1]
  end
  if group.name == ARGV[1] then
    local unread = #redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 1000)
    redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
    return {1, group.pending, unread}
  end
end
return {0, 0, 0}
