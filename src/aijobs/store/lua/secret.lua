-- The secret that all processes of the store share; the first to ask proposes it. It lapses when unused for 30 days.
--
-- KEYS[1] key prefix   ARGV[1] proposal

local key = KEYS[1] .. ':secret'
redis.call('SET', key, ARGV[1], 'NX')
redis.call('EXPIRE', key, 2592000)
return redis.call('GET', key)
