-- Notes that a queued job is published again, when it is still as it was seen; then it is left alone for a while, and for
-- twice that after the next time.
--
-- KEYS[1] key prefix   ARGV[1] job id   ARGV[2] revision   ARGV[3] microseconds

local key = KEYS[1] .. ':job:' .. ARGV[1]
local status, rev, wait = unpack(redis.call('HMGET', key, 'status', 'rev', 'checked_wait'))
if status ~= 'queued' or rev ~= ARGV[2] then return 0 end
local clock = redis.call('TIME')
wait = tonumber(wait or ARGV[3])
-- What is made again from the record may be of an earlier generation than the message that was lost.
redis.call('HSET', key, 'generation', 0)
local until_then = tonumber(clock[1] .. string.format('%06d', clock[2])) + wait
redis.call('HSET', key, 'checked', string.format('%.0f', until_then), 'checked_wait', string.format('%.0f', 2 * wait))
return 1
