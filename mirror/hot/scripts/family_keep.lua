-- Says that a consumer still works on messages, so that nobody takes them over.
-- KEYS: the stream. ARGV: group, consumer, then ids. Returns the ids that it does not have any more.
local lost = {}
for at = 3, #ARGV do
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[at], ARGV[at], 1, ARGV[2])
  if pending.err then
    return pending
  end
  if pending[1] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[at], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[at]
  end
end
return lost
