-- Who is online: of all agents that are known, those whose key is there.
-- KEYS: the sorted set, the stream of messages. ARGV: the prefix and the ending of an agent's key.
--
-- Known are those that said so here, and those that read messages: the original writes no sorted set. An agent counts by
-- its key. Those whose time is over and whose key is gone leave the sorted set.
local now = redis.call('TIME')
local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local seen, online, gone = {}, {}, {}

local function look(agent, till)
  if seen[agent] then
    return
  end
  seen[agent] = true
  if redis.call('EXISTS', ARGV[1] .. agent .. ARGV[2]) == 1 then
    online[#online + 1] = agent
  elseif till and till < ms then
    gone[#gone + 1] = agent
  end
end

local known = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for at = 1, #known, 2 do
  look(known[at], tonumber(known[at + 1]))
end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[2])
if not groups.err then
  for _, group in ipairs(groups) do
    for at = 1, #group, 2 do
      local agent = group[at] == 'name' and string.match(group[at + 1], '^agent:(.+)$')
      if agent then
        look(agent)
      end
    end
  end
end
for at = 1, #gone, 1000 do
  redis.call('ZREM', KEYS[1], unpack(gone, at, math.min(at + 999, #gone)))
end
return online
