-- Sets fields of an agent's state, and writes the whole of it as JSON beside it.
-- KEYS: the hash, the JSON. ARGV: names of the fields that are numbers, joined by spaces; then field, value, ...
-- Returns the number of fields that the state has.
local numbers = {}
for name in string.gmatch(ARGV[1], '%S+') do
  numbers[name] = true
end

-- First what needs memory: where it is refused, nothing was done.
local set = redis.pcall('HSET', KEYS[1], unpack(ARGV, 2))
if type(set) == 'table' and set.err then
  return set
end

local flat = redis.call('HGETALL', KEYS[1])
local names, values = {}, {}
for at = 1, #flat, 2 do
  names[#names + 1] = flat[at]
  values[flat[at]] = flat[at + 1]
end
table.sort(names)
local parts = {}
for _, name in ipairs(names) do
  local value = values[name]
  -- Another program may have written what JSON has no number for: NaN, 0x1, an empty text.
  local number = numbers[name]
    and (string.match(value, '^-?%d+%.?%d*[eE][-+]?%d+$') or string.match(value, '^-?%d+%.%d+$') or string.match(value, '^-?%d+$'))
    and not string.match(value, '^-?0%d') and not string.match(value, '%.[eE]')
  parts[#parts + 1] = cjson.encode(name) .. ':' .. (number and value or cjson.encode(value))
end
redis.call('SET', KEYS[2], '{' .. table.concat(parts, ',') .. '}')
return #names
