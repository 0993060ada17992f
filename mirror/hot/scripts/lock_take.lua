-- Takes a lock for some milliseconds, with a number higher than that of every holder before.
-- KEYS: the lock, its fence. ARGV: who takes it (hexadecimal, new for each attempt), milliseconds.
-- Returns {number as text, 0}, or {false, milliseconds that the holder still has}.
--
-- The number is the fence's next, but at least the server's time in microseconds: a server that comes back without its
-- last second, or without anything, must not give a number again. Sent again because the answer was lost, it gives the
-- same number again.
local held = redis.call('GET', KEYS[1])
if held then
  local fence, owner = string.match(held, '^(%d+) (%x+)$')
  if owner == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return {fence, 0}
  end
  return {false, redis.call('PTTL', KEYS[1])}
end
local fence = redis.pcall('INCR', KEYS[2])
if type(fence) == 'table' then
  return fence
end
local now = redis.call('TIME')
local least = tonumber(now[1]) * 1000000 + tonumber(now[2])
if fence < least then
  fence = least
  redis.call('SET', KEYS[2], string.format('%.0f', fence))
end
local text = string.format('%.0f', fence)
redis.call('SET', KEYS[1], text .. ' ' .. ARGV[1], 'NX', 'PX', ARGV[2])
return {text, 0}
