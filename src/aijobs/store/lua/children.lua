-- The jobs that a job submitted, or that a group or a batch holds; what a job of this id submits later is born cancelled.
--
-- KEYS[1] key prefix   ARGV[1] id of a job, group or batch   ARGV[2] the same, escaped

local key = KEYS[1] .. ':job:' .. ARGV[1]
if redis.call('EXISTS', key) == 1 then redis.call('HSET', key, 'cancel_children', '1') end
local found = redis.call('ZRANGE', KEYS[1] .. ':children:' .. ARGV[1], 0, -1)
for _, member in ipairs(redis.call('ZRANGE', KEYS[1] .. ':batch:' .. ARGV[2], 0, -1)) do found[#found + 1] = member end
return found
