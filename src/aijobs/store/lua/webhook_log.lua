-- The attempts to tell of a job, oldest first.
--
-- KEYS[1] key prefix   ARGV[1] job id

return redis.call('LRANGE', KEYS[1] .. ':job:' .. ARGV[1] .. ':webhooks', 0, -1)
