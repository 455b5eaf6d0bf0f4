-- The record, and where it is in its queue.
--
-- KEYS[1] key prefix   ARGV[1] job id
--
-- Returns {the record as JSON text, position}; {} without record.

local record, position = find(KEYS[1], ARGV[1])
return {record, position}
