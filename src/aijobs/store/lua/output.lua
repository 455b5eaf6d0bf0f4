-- The record and what its newest attempt has given out, as of one moment.
--
-- KEYS[1] key prefix   ARGV[1] job id
--
-- Returns {the record as JSON text, position in its queue, attempt ('' = no output), 1 when the beginning is missing,
-- pieces as lines of JSON}; {} without record.

local record, position, fields = find(KEYS[1], ARGV[1])
if not record then return {} end
local lines = redis.call('LRANGE', KEYS[1] .. ':job:' .. ARGV[1] .. ':output', 0, -1)
local cut = fields.output_cut and 1 or 0
return {record, position, #lines > 0 and fields.output_of or '', cut, table.concat(lines, '\n')}
