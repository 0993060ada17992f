-- Says that an agent is online, for so many milliseconds.
-- KEYS: its key, the sorted set of all. ARGV: the agent, milliseconds. Returns 1.
--
-- PEXPIRE comes first, because it works while memory is full; SET is needed only where the key is missing. A script whose
-- first write was let through may go on to write, however full memory is: so SET and ZADD work then, too.
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 0 then
  redis.call('SET', KEYS[1], '1', 'PX', ARGV[2])
end
local now = redis.call('TIME')
local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
redis.call('ZADD', KEYS[2], string.format('%.0f', ms + tonumber(ARGV[2])), ARGV[1])
return 1
