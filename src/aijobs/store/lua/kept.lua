-- What the attempts of a job have kept: names and values in turn.
--
-- KEYS[1] key prefix   ARGV[1] job id

return redis.call('HGETALL', KEYS[1] .. ':job:' .. ARGV[1] .. ':kept')
