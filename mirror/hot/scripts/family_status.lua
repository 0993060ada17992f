-- What is waiting for whom.
-- KEYS: the stream, the stream of dead letters. ARGV: how far to count where the server does not say; most tries.
-- Returns {messages, dead letters, {group, consumers, pending, lag, milliseconds that the oldest pending one waits} ...};
-- a lag of -1: more than was counted; a wait of -1: nothing is pending.
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
local answer = {redis.call('XLEN', KEYS[1]), redis.call('XLEN', KEYS[2])}
if groups.err then
  return answer
end
for _, flat in ipairs(groups) do
  local group = {}
  for at = 1, #flat, 2 do
    group[flat[at]] = flat[at + 1]
  end
  -- Servers before 7.0 have no lag, and later ones none where entries were deleted. So it is counted, as far as is cheap;
  -- beyond, the server's counts.
  local lag, from = 0, '(' .. group['last-delivered-id']
  while lag < tonumber(ARGV[1]) do
    local some = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 100)
    lag = lag + #some
    if #some < 100 then
      break
    end
    from = '(' .. some[#some][1]
  end
  if lag >= tonumber(ARGV[1]) then
    lag = type(group.lag) == 'number' and math.max(lag, group.lag) or -1
  end
  local wait = -1
  if group.pending > 0 then
    local oldest = redis.call('XPENDING', KEYS[1], group.name, '-', '+', 1)[1]
    if oldest then
      local now = redis.call('TIME')
      local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
      wait = math.max(0, ms - tonumber(string.match(oldest[1], '^%d+')))
    end
  end
  answer[#answer + 1] = {group.name, group.consumers, group.pending, lag, wait}
end
return answer
