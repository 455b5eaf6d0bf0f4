-- Notes that a worker is alive, or that it has gone, and forgets workers that were silent for long.
--
-- KEYS[1] key prefix   ARGV[1] worker   ARGV[2] '1' alive, '0' gone   ARGV[3] microseconds after which to forget

local workers = KEYS[1] .. ':workers'
local clock = redis.call('TIME')
local now = clock[1] .. string.format('%06d', clock[2])
if ARGV[2] == '1' then
  redis.call('ZADD', workers, now, ARGV[1])
else
  redis.call('ZREM', workers, ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', workers, '-inf', string.format('%.0f', tonumber(now) - tonumber(ARGV[3])))
redis.call('PEXPIRE', workers, math.ceil(tonumber(ARGV[3]) / 1000))
return 1
