-- Begins an attempt, unless the job is over, runs elsewhere, or has gone on to a later message. One that runs in a worker
-- that is gone was delivered again: the new attempt takes it over, unless somebody has asked for it to be cancelled.
--
-- ARGV[13] time to live of a finished job, microseconds   ARGV[14] generation of the message
-- ARGV[15] events that the app's webhook wants
--
-- A task publishes its retry before it reports it, so a message of a later generation may come while the attempt that
-- sent it still runs.

local generation = tonumber(ARGV[14])
local job = load_or_adopt(ARGV[15])
if job.status == '' or FINISHED[job.status] then
  if job.status == '' then write_result() end
  return answer(0, job)
end
if job.status == 'running' and job.claim == claim then return answer(1, job) end
if is_lost(job) or generation < job.generation then return answer(0, job) end
local follows = job.status == 'running' and generation > job.generation
if job.status == 'running' and not follows and lives(root, now, job.claim, job.started) then return answer(0, job) end
if job.cancel == 1 then
  revoke(job, ARGV[13])
  commit(job)
  return answer(0, job)
end
if job.status == 'running' and not follows then lose(job, 'The worker that ran the job was lost.') end
redis.call('HSET', key, 'generation', ARGV[14])
-- What another task has kept, which this one replaces, goes.
size_kept(generation)
open_attempt(job)
commit(job)
write_result()
return answer(1, job)
