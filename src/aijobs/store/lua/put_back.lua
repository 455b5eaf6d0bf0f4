-- Sends a running job whose worker is gone back to the queue; revokes it instead when that was asked for.
--
-- ARGV[13] time to live of a finished job, microseconds

local job = load_job()
if job.status ~= 'running' or lives(root, now, job.claim, job.started) then return answer(0, job) end
enter(job, 'queued')
fence_off(job)
redis.call('HSET', key, 'ended', now)
if job.cancel == 1 then
  revoke(job, ARGV[13])
else
  lose(job, 'The worker that ran the job was lost.')
  emit('job.status', cjson.encode({status = 'queued', attempt = job.attempt, error_code = 'worker_lost'}))
end
commit(job)
return answer(1, job)
