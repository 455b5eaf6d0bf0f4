-- Notes how an attempt ended; nothing when another attempt has begun since, or this one is noted already.
--
-- ARGV[4] attempt                           ARGV[7] entries that a job's log has, at most
-- ARGV[5] entry of the log                  ARGV[8] time to live of a switched-off address, microseconds ('' = leave it on)
-- ARGV[6] next attempt at, microseconds ('' = none)

local attempt, noted = unpack(redis.call('HMGET', key, 'attempt', 'noted'))
if attempt ~= ARGV[4] or noted == ARGV[4] then return 0 end
local log = root .. ':job:' .. id .. ':webhooks'
local left = redis.call('PTTL', root .. ':job:' .. id)
redis.call('RPUSH', log, ARGV[5])
redis.call('LTRIM', log, -ARGV[7], -1)
redis.call('PEXPIRE', log, left > 0 and left or redis.call('PTTL', key))
if ARGV[8] ~= '' then redis.call('SET', switch(), now, 'PX', math.ceil(tonumber(ARGV[8]) / 1000)) end
if ARGV[6] ~= '' then
  redis.call('HSET', key, 'noted', attempt)
  rest_until(ARGV[6])
else
  redis.call('DEL', key)
  redis.call('ZREM', due, id .. '\n' .. seq)
end
return 1
