-- Begins an attempt to tell an event, unless it was told, another attempt is under way, or the next is not due.
--
-- ARGV[4] microseconds that an attempt may take; twice as long after each one that never ended, which may have taken its
--         process with it
--
-- Returns the event as HGETALL gives it, 1 when its address was switched off, and the time.

local LONGEST = 6

local before, noted = unpack(redis.call('HMGET', key, 'next', 'noted'))
if redis.call('EXISTS', key) == 0 or before and tonumber(before) > tonumber(now) then return {{}, 0, now} end
local lost = redis.call('HINCRBY', key, 'attempt', 1) - tonumber(noted or '0') - 1
redis.call('HDEL', key, 'taken')
rest_until(string.format('%.0f', tonumber(now) + tonumber(ARGV[4]) * 2 ^ math.min(lost, LONGEST)))
return {redis.call('HGETALL', key), redis.call('EXISTS', switch()), now}
