-- Whether the caller may do what only one process does at a time: nobody has for so long.
--
-- KEYS[1] key prefix   ARGV[1] name of what is done   ARGV[2] milliseconds until the next turn

return redis.call('SET', KEYS[1] .. ':turn:' .. ARGV[1], '1', 'NX', 'PX', ARGV[2]) and 1 or 0
