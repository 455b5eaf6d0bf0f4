-- Begins an attempt. A job that runs under another claim was delivered again: the newer attempt takes it over, unless
-- somebody has asked for it to be cancelled.
--
-- ARGV[13] time to live of a finished job, microseconds

local job = load_or_adopt()
if job.status == '' or FINISHED[job.status] then
  if job.status == '' then write_result() end
  return answer(0, job)
end
if job.status == 'running' and job.claim == claim then return answer(1, job) end
if is_lost(job) then return answer(0, job) end
if job.cancel == 1 then
  revoke(job, ARGV[13])
  commit(job)
  return answer(0, job)
end
open_attempt(job)
commit(job)
write_result()
return answer(1, job)
