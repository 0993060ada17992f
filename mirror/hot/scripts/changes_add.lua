-- Appends entries of the change feed, if the stream ends where the publisher says that it does.
-- KEYS: the stream; a hash that says who publishes to it.
-- ARGV: database, epoch, how ('on': as before; 'take': as one who has just begun; 'over': as one who has, and of whom
-- Postgres says that no later one has; 'anew': the stream is emptied first), the id that the stream ends with ('0-0':
-- with none), about how many entries to keep; then for each entry its id and its document.
-- Returns what it did, the id that the stream ends with, and the database of who has published before, if that is
-- another one. It did: 'added'; nothing, because the stream 'ends' elsewhere; or 'fenced': another publishes now.
local stream, owner = KEYS[1], KEYS[2]
local database, epoch, how, ends, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local known = redis.call('HMGET', owner, 'database', 'epoch')
local other = known[1] and known[1] ~= database and known[1] or ''
if other ~= '' then
  if how == 'on' then
    return {'fenced', '0-0', other}
  end
elseif known[1] and how ~= 'over' and tonumber(known[2]) > tonumber(epoch) then
  return {'fenced', '0-0', ''}
end
local last = '0-0'
if redis.call('EXISTS', stream) == 1 then
  local info = redis.call('XINFO', 'STREAM', stream)
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then
      last = info[at + 1]
    end
  end
end
if how ~= 'anew' and last ~= ends then
  ends = nil
end
-- This needs memory, as appending does: where there is none, nothing at all is done.
redis.call('HSET', owner, 'database', database, 'epoch', epoch)
if not ends then
  return {'ends', last, other}
end
if how == 'anew' then
  redis.call('DEL', stream)
  last = '0-0'
end
for at = 6, #ARGV, 2 do
  redis.call('XADD', stream, 'MAXLEN', '~', most, ARGV[at], 'change', ARGV[at + 1])
  last = ARGV[at]
end
return {'added', last, other}
