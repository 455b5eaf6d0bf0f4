-- Revokes a queued job at once; asks a running one to stop.
--
-- ARGV[13] time to live of a finished job, microseconds

local job = load_job()
if job.status == '' or FINISHED[job.status] then return answer(0, job) end
if job.cancel == 0 then
  redis.call('HSET', key, 'cancel_requested', now)
  job.cancel = 1
end
if job.status == 'queued' then
  revoke(job, ARGV[13])
  write_result()
else
  emit('job.status', cjson.encode({status = 'running', attempt = job.attempt, cancel_requested = true}))
end
commit(job)
return answer(1, job)
