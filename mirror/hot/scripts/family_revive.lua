-- Sends a dead letter again, to the agent that did not get it.
-- KEYS: the stream of dead letters, the stream. ARGV: the letter's id. Returns the new message's id; false: no such letter.
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return false
end
local told = {}
for at = 1, #letter[2], 2 do
  -- The message's own fields come last.
  told[letter[2][at]] = letter[2][at + 1]
end
local id = redis.pcall('XADD', KEYS[2], '*', 'sender', told.sender or '', 'type', told.type or 'observation',
  'recipient', told.agent, 'payload', told.payload or '{}')
if type(id) == 'table' and id.err then
  return id
end
redis.call('XDEL', KEYS[1], ARGV[1])
redis.pcall('XGROUP', 'CREATE', KEYS[2], 'agent:' .. told.agent, '0')
return id
