-- Gives a lock back, if it is still the holder's. KEYS: the lock. ARGV: number and owner. Returns 1; 0: it was not.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
