-- Writes what the running attempt gives out, then its progress; with neither it only answers whether this attempt is the
-- running one.
--
-- ARGV[13] fraction 0–1 ('' = unknown)   ARGV[14] detail as JSON ('' = no progress to write)
-- ARGV[15] events that the app's webhook wants          ARGV[16…] output, as `write_output` takes it

local job = load_or_adopt(ARGV[15])
if not is_current(job) then
  if job.status == '' then write_result() end
  return answer(0, job)
end
if job.status == 'queued' and claim ~= '' then open_attempt(job) end
local is_changed = changed or ARGV[14] ~= ''
write_output(job, 16)
if ARGV[14] ~= '' then
  redis.call('HSET', key, 'progress', ARGV[13], 'detail', ARGV[14])
  local fraction = ARGV[13] == '' and 'null' or ARGV[13]
  emit('job.progress', '{"progress":' .. fraction .. ',"progress_detail":' .. ARGV[14] .. '}')
end
if is_changed then commit(job) elseif changed then commit_output(job) end
write_result()
return answer(1, job)
