-- Notes that every job of a batch was made and sent, and gives the record.
--
-- KEYS[1] key prefix   ARGV[1] batch id, escaped

local record = KEYS[1] .. ':batch:' .. ARGV[1] .. ':record'
if redis.call('EXISTS', record) == 1 then redis.call('HSET', record, 'submitted', '1') end
return redis.call('HGETALL', record)
