-- Begins an attempt. A job that runs under another claim was delivered again: the newer attempt takes it over.

local job = load_or_adopt()
if job.status == '' or FINISHED[job.status] then
  if job.status == '' then write_result() end
  return answer(0, job)
end
if job.status == 'running' and job.claim == claim then return answer(1, job) end
if is_lost(job) then return answer(0, job) end
open_attempt(job)
commit(job)
write_result()
return answer(1, job)
