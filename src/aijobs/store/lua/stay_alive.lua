-- Notes that a worker is still alive, when it has said so before. What it runs is as old as it was: 'seen' is of that.
--
-- KEYS[1] key prefix   ARGV[1] session   ARGV[2] microseconds for which this holds

local worker = KEYS[1] .. ':worker:' .. ARGV[1]
if redis.call('EXISTS', worker) == 0 then return 0 end
local clock = redis.call('TIME')
local now = clock[1] .. string.format('%06d', clock[2])
local lease = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1] .. ':workers', string.format('%.0f', tonumber(now) + lease), ARGV[1])
-- Another worker may have a longer lease.
if redis.call('PTTL', KEYS[1] .. ':workers') < lease / 1000 then
  redis.call('PEXPIRE', KEYS[1] .. ':workers', math.ceil(lease / 1000))
end
redis.call('PEXPIRE', worker, math.ceil(lease / 1000))
return 1
