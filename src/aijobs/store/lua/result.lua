-- The result as JSON, inline or not.
--
-- KEYS[1] key prefix   ARGV[1] job id

local key = KEYS[1] .. ':job:' .. ARGV[1]
return redis.call('HGET', key, 'result') or redis.call('GET', key .. ':result')
