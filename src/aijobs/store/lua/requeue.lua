-- Sends the running attempt back to the queue.
--
-- ARGV[13] due at, microseconds ('' = now)   ARGV[14] error code ('' = none)
-- ARGV[15] error message                     ARGV[16] traceback
-- ARGV[17] progress: fraction ('' = unknown) ARGV[18] progress: detail ('' = as it is)
-- ARGV[19] time to live of a finished job, microseconds
-- ARGV[20] 'retry', 'waited' (the attempt does not count) or 'replaced', which go on with another message; 'rejected',
--          'returned' (the attempt does not count) or 'lost', which go on with the same
-- ARGV[21] events that the app's webhook wants   ARGV[22…] output, as `write_output` takes it
--
-- A job whose cancel was asked for is revoked instead; Celery's result is left to the caller then.

-- A bystander, or a worker that stops before it began, has no attempt to return, so what it names gets no record either.
local job = (claim == '' or ARGV[20] == 'returned') and load_job() or load_or_adopt(ARGV[21])
if not is_current(job) or (job.status == 'queued' and claim == '') then
  if job.status == '' then write_result() end
  return answer(0, job)
end
if job.status == 'queued' and ARGV[20] == 'returned' then return answer(1, job) end
if job.status == 'queued' then open_attempt(job) end
write_output(job, 22)
enter(job, 'queued')
fence_off(job)
redis.call('HSET', key, 'ended', now)
write_progress(ARGV[17], ARGV[18])
if job.cancel == 1 then
  revoke(job, ARGV[19])
  commit(job)
  return answer(1, job)
end
if ARGV[20] == 'lost' then lose(job, ARGV[15]) end
if ARGV[20] == 'retry' or ARGV[20] == 'waited' then redis.call('HSET', key, 'generation', job.generation + 1) end
if ARGV[20] == 'replaced' then
  redis.call('HSET', key, 'generation', (math.floor(job.generation / REPLACED) + 1) * REPLACED)
  redis.call('DEL', kept)
end
local code = ARGV[14] ~= '' and write_error(job, ARGV[14], ARGV[15], ARGV[16]) or nil
if ARGV[20] == 'returned' or ARGV[20] == 'waited' then job.attempt = redis.call('HINCRBY', key, 'attempt', -1) end
local told = {status = 'queued', attempt = job.attempt, error_code = code}
if ARGV[13] ~= '' then
  redis.call('HSET', key, 'scheduled', ARGV[13])
  told.scheduled_us = ARGV[13]
end
emit('job.status', cjson.encode(told))
commit(job)
write_result()
return answer(1, job)
