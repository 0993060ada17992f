-- Deletes messages by their age, and tells whom that costs something.
-- KEYS: the stream. ARGV: the age in milliseconds, the most messages (at least 2).
-- Returns {number of messages, agent, id, state, ...}; state: unread, or unacknowledged. An agent that reads "its own
-- and those for all" misses only these; who a message is for counts as an agent, even if it never read anything.
local function less(a, b)
  local a1, a2 = string.match(a, '^(%d+)-(%d+)$')
  local b1, b2 = string.match(b, '^(%d+)-(%d+)$')
  if a1 ~= b1 then
    return #a1 < #b1 or (#a1 == #b1 and a1 < b1)
  end
  return #a2 < #b2 or (#a2 == #b2 and a2 < b2)
end

local now = redis.call('TIME')
local limit = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000) - tonumber(ARGV[1])
if limit <= 0 then
  return {0}
end
local threshold = string.format('%.0f', limit) .. '-0'
local old = redis.call('XRANGE', KEYS[1], '-', '(' .. threshold, 'COUNT', ARGV[2])
if #old == tonumber(ARGV[2]) then
  threshold = table.remove(old)[1]  -- the rest at the next call, this one included
end
if #old == 0 then
  return {0}
end
local agents, answer = {}, {0}
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, flat in ipairs(groups) do
  local group = {}
  for at = 1, #flat, 2 do
    group[flat[at]] = flat[at + 1]
  end
  local agent = string.match(group.name, '^agent:(.+)$')
  local waiting = {}
  local from = '-'
  while group.pending > 0 do
    local some = redis.call('XPENDING', KEYS[1], group.name, from, '(' .. threshold, 100)
    for _, one in ipairs(some) do
      waiting[one[1]] = true
    end
    if #some < 100 then
      break
    end
    from = '(' .. some[#some][1]
  end
  if agent then
    agents[agent] = {last = group['last-delivered-id'], waiting = waiting}
  end
  for id in pairs(waiting) do
    redis.call('XACK', KEYS[1], group.name, id)
  end
end
for _, entry in ipairs(old) do
  local id, recipient = entry[1], '*'
  for at = 1, #entry[2], 2 do
    if entry[2][at] == 'recipient' then
      recipient = entry[2][at + 1]
    end
  end
  for agent, seen in pairs(agents) do
    if recipient == '*' or recipient == agent then
      local state = seen.waiting[id] and 'unacknowledged' or less(seen.last, id) and 'unread'
      if state then
        answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = agent, id, state
      end
    end
  end
  if recipient ~= '*' and not agents[recipient] then
    answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = recipient, id, 'unread'
  end
end
answer[1] = redis.call('XTRIM', KEYS[1], 'MINID', threshold)
return answer
