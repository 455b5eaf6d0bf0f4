-- Writes the progress of the running attempt; with no progress it only answers whether this attempt is the running one.
--
-- ARGV[13] fraction 0–1 ('' = unknown)   ARGV[14] detail as JSON ('' = no progress to write)
-- ARGV[15] events that the app's webhook wants

local job = load_or_adopt(ARGV[15])
if not is_current(job) then
  if job.status == '' then write_result() end
  return answer(0, job)
end
if job.status == 'queued' and claim ~= '' then open_attempt(job) end
if ARGV[14] ~= '' then
  redis.call('HSET', key, 'progress', ARGV[13], 'detail', ARGV[14])
  local fraction = ARGV[13] == '' and 'null' or ARGV[13]
  emit('job.progress', '{"progress":' .. fraction .. ',"progress_detail":' .. ARGV[14] .. '}')
end
if changed then commit(job) end
write_result()
return answer(1, job)
