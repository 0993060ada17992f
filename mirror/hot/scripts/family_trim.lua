-- Deletes messages that every group has read and acknowledged; and consumers that are gone.
-- KEYS: the stream. ARGV: milliseconds after which a consumer without messages is gone. Returns the number of messages.
--
-- The ids that may go are those below a floor: the least, over all groups, of the last one delivered and the oldest that
-- was not acknowledged. What lies at the floor stays. Where the server knows ACKED (Redis from 8.2), messages above the
-- oldest unacknowledged one go, too; only trying tells, because versions of forks say nothing.

-- Ids are two numbers of up to 64 bits, which Lua cannot hold: compared as digits.
local function less(a, b)
  local a1, a2 = string.match(a, '^(%d+)-(%d+)$')
  local b1, b2 = string.match(b, '^(%d+)-(%d+)$')
  if a1 ~= b1 then
    return #a1 < #b1 or (#a1 == #b1 and a1 < b1)
  end
  return #a2 < #b2 or (#a2 == #b2 and a2 < b2)
end

local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err or #groups == 0 then
  return 0  -- no stream; or nobody has read anything yet
end
local floor, delivered
for _, flat in ipairs(groups) do
  local group = {}
  for at = 1, #flat, 2 do
    group[flat[at]] = flat[at + 1]
  end
  local last = group['last-delivered-id']
  if not delivered or less(last, delivered) then
    delivered = last
  end
  local oldest = last
  if group.pending > 0 then
    local first = redis.call('XPENDING', KEYS[1], group.name)[2]
    if first and less(first, oldest) then
      oldest = first
    end
  end
  if not floor or less(oldest, floor) then
    floor = oldest
  end
  for _, flat_consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group.name)) do
    local consumer = {}
    for at = 1, #flat_consumer, 2 do
      consumer[flat_consumer[at]] = flat_consumer[at + 1]
    end
    if consumer.pending == 0 and consumer.idle > tonumber(ARGV[1]) then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group.name, consumer.name)
    end
  end
end
local trimmed = redis.pcall('XTRIM', KEYS[1], 'MINID', delivered, 'ACKED')
if type(trimmed) == 'number' then
  return trimmed
end
return redis.call('XTRIM', KEYS[1], 'MINID', floor)
