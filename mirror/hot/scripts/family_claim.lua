-- Takes over messages that a consumer has not acknowledged for some time, and puts away those tried too often.
-- KEYS: the stream, the stream of dead letters. ARGV: group, consumer, milliseconds without a sign, most tries, how many
-- messages, the agent, whose messages (empty: everybody's), then ids that are left alone.
-- Returns {messages, dead, gone}: {id, fields, deliveries} each; ids put away; ids whose entry does not exist any more.
--
-- XACK comes before XADD: a script that has written may go on to write, however full memory is. So a message can be put
-- away then, too; and nobody sees it in neither place, because a script is seen as a whole.
local messages, dead, gone = {}, {}, {}
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the key of dead letters holds a ' .. kind)
end
local left_alone = {}
for at = 8, #ARGV do
  left_alone[ARGV[at]] = true
end
local range = {'XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[5] + #ARGV - 7}
if ARGV[7] ~= '' then
  range[#range + 1] = ARGV[7]
end
local pending = redis.pcall(unpack(range))
if pending.err then
  return pending
end
for _, one in ipairs(pending) do
  local id, tries = one[1], one[4]
  local entry = not left_alone[id] and redis.call('XRANGE', KEYS[1], id, id)[1]
  if left_alone[id] then
    -- Its reader is at work on it.
  elseif not entry then
    redis.call('XACK', KEYS[1], ARGV[1], id)
    gone[#gone + 1] = id
  elseif tries >= tonumber(ARGV[4]) then
    redis.call('XACK', KEYS[1], ARGV[1], id)
    local letter = {'agent', ARGV[6], 'id', id, 'deliveries', tostring(tries), 'consumer', one[2],
      'reason', 'delivered ' .. tries .. ' times and never acknowledged'}
    for at = 1, math.min(#entry[2], 1000) do
      letter[#letter + 1] = entry[2][at]
    end
    redis.call('XADD', KEYS[2], '*', unpack(letter))
    dead[#dead + 1] = id
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], id)
    messages[#messages + 1] = {id, entry[2], tries + 1}
  end
end
return {messages, dead, gone}
