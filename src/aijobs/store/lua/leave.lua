-- Notes that a worker has gone.
--
-- KEYS[1] key prefix   ARGV[1] session

redis.call('ZREM', KEYS[1] .. ':workers', ARGV[1])
redis.call('DEL', KEYS[1] .. ':worker:' .. ARGV[1])
return 1
