-- Keeps a value for this attempt and those after it; what went by its name before is replaced.
--
-- ARGV[13] name             ARGV[15] bytes that all names and values may have
-- ARGV[14] value            ARGV[16] generation of the message
-- ARGV[17] events that the app's webhook wants
--
-- Returns what all changes answer, and the bytes that all is then; with more than it may have, nothing was kept.

local job = load_or_adopt(ARGV[17])
if not is_current(job) then return {0, job.status, job.attempt, job.cancel, 0} end
if job.status == 'queued' and claim ~= '' then open_attempt(job) end
if changed then commit(job) end
local size, replaced = size_kept(ARGV[16])
local before = redis.call('HSTRLEN', kept, ARGV[13])
size = size + #ARGV[14] - before + (before == 0 and #ARGV[13] or 0)
if size <= tonumber(ARGV[15]) then
  redis.call('HSET', kept, ARGV[13], ARGV[14], '', string.format('%d %d', size, replaced))
  redis.call('PEXPIRE', kept, redis.call('PTTL', key))
end
return {1, job.status, job.attempt, job.cancel, size}
