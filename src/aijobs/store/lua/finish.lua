-- Ends a job: exactly once, and only by the attempt that has it (or by nobody's, such as a revoke).
--
-- ARGV[13] status         ARGV[16] traceback                 ARGV[19] progress: fraction ('' = unknown)
-- ARGV[14] error code     ARGV[17] result as JSON ('' = none) ARGV[20] progress: detail ('' = as it is)
-- ARGV[15] error message  ARGV[18] largest inline result, bytes
-- ARGV[21] events that the app's webhook wants   ARGV[22…] output, as `write_output` takes it

local job = load_or_adopt(ARGV[21])
if not is_current(job) then
  if job.status == '' then write_result() end
  return answer(0, job)
end
if job.status == 'queued' and (ARGV[13] == 'success' or ARGV[22]) then open_attempt(job) end
write_output(job, 22)
if job.status == 'running' then redis.call('HSET', key, 'ended', now) end
enter(job, ARGV[13])
redis.call('HSET', key, 'completed', now)
redis.call('HDEL', key, 'scheduled')
if ARGV[14] == '' then
  redis.call('HDEL', key, 'error_code', 'error_retryable', 'error_message', 'error_attempt', 'traceback')
else
  write_error(job, ARGV[14], ARGV[15], ARGV[16])
end
if ARGV[17] ~= '' then
  redis.call('HSET', key, 'result_bytes', #ARGV[17])
  if #ARGV[17] <= tonumber(ARGV[18]) then
    redis.call('HSET', key, 'result', ARGV[17])
  else
    redis.call('SET', key .. ':result', ARGV[17], 'PX', milliseconds_to_live())
  end
end
write_progress(ARGV[19], ARGV[20])
if ARGV[13] == 'success' then
  redis.call('HSET', key, 'progress', '1')
  redis.call('DEL', kept)
end
emit('job.completed', cjson.encode({status = ARGV[13], attempt = job.attempt}))
commit(job)
write_result()
return answer(1, job)
