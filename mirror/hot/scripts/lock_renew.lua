-- Gives the holder of a lock so many milliseconds from now. KEYS: the lock. ARGV: number and owner, milliseconds.
-- Returns 1; 0: it is not the holder.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
