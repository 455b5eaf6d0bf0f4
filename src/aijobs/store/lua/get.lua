-- The record as HGETALL gives it, and how many jobs of its queue are ahead while it is queued, plus one.
--
-- KEYS[1] key prefix   ARGV[1] job id
--
-- Returns {the record as JSON text, position}: one string is read much faster than a list of many; {} without record.

local record = redis.call('HGETALL', KEYS[1] .. ':job:' .. ARGV[1])
if #record == 0 then return {} end
local fields = {}
for i = 1, #record, 2 do fields[record[i]] = record[i + 1] end
if fields.status ~= 'queued' then return {cjson.encode(record), 0} end
local queue = string.match(fields.entry, '^[^\n]*\n[^\n]*\n([^\n]*)')
return {cjson.encode(record), redis.call('ZCOUNT', KEYS[1] .. ':queue:' .. queue, '-inf', '(' .. fields.created) + 1}
