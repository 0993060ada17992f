-- Gives a message back after a failure: to be tried again later, or, tried too often, to the dead letters.
-- KEYS: the stream, the stream of dead letters. ARGV: group, consumer, id, most tries, the agent, the reason,
-- milliseconds without a sign after which a message is taken over.
-- Returns 'again', 'dead', or 'lost': another consumer has it, or it was acknowledged.
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the key of dead letters holds a ' .. kind)
end
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if pending.err then
  return pending
end
local one = pending[1]
if not one then
  return 'lost'
end
local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if not entry then
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
  return 'lost'
end
if one[4] < tonumber(ARGV[4]) then
  -- As if it had been delivered earlier, so that it is taken over after 1, 2, 4 ... seconds.
  local idle = math.max(0, tonumber(ARGV[7]) - 1000 * 2 ^ math.min(one[4] - 1, 20))
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', string.format('%.0f', idle), 'JUSTID')
  return 'again'
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
local letter = {'agent', ARGV[5], 'id', ARGV[3], 'deliveries', tostring(one[4]), 'consumer', ARGV[2], 'reason', ARGV[6]}
for at = 1, math.min(#entry[2], 1000) do
  letter[#letter + 1] = entry[2][at]
end
redis.call('XADD', KEYS[2], '*', unpack(letter))
return 'dead'
