-- The record of a batch.
--
-- KEYS[1] key prefix   ARGV[1] batch id, escaped

return redis.call('HGETALL', KEYS[1] .. ':batch:' .. ARGV[1] .. ':record')
