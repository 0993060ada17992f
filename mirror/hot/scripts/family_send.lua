-- Adds a message to the stream, once for each token, and sees to it that it is kept for who it is for.
-- KEYS: the stream, the key of the token. ARGV: milliseconds that the token is kept, the group of who it is for (empty:
-- all), sender, type, recipient, payload. Returns the message's id.
local known = redis.call('GET', KEYS[2])
if known then
  return known
end
local id = redis.pcall('XADD', KEYS[1], '*', 'sender', ARGV[3], 'type', ARGV[4], 'recipient', ARGV[5], 'payload', ARGV[6])
if type(id) == 'table' and id.err then
  return id
end
redis.call('SET', KEYS[2], id, 'PX', ARGV[1])
if ARGV[2] ~= '' then
  -- Without a group, nothing would tell that it was not read. (An error says that there is one.)
  redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[2], '0')
end
return id
