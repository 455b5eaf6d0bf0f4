-- The record, and how many jobs of its queue are ahead while it is queued.
--
-- KEYS[1] key prefix   ARGV[1] job id

local key = KEYS[1] .. ':job:' .. ARGV[1]
local record = redis.call('HGETALL', key)
if #record == 0 then return {record, 0} end
local told = redis.call('HMGET', key, 'status', 'entry', 'created')
if told[1] ~= 'queued' then return {record, 0} end
local queue = string.match(told[2], '^[^\n]*\n[^\n]*\n([^\n]*)')
return {record, redis.call('ZCOUNT', KEYS[1] .. ':queue:' .. queue, '-inf', '(' .. told[3]) + 1}
