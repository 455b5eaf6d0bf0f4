-- Removes the record of a finished job.

local job = load_job()
if not FINISHED[job.status] then return 0 end
leave_indexes(job)
redis.call('DEL', key, stream, kept, key .. ':result', key .. ':output', key .. ':webhooks', key .. ':webhooks:off')
if job.idem then redis.call('DEL', root .. ':idem:' .. job.idem) end
redis.call('PUBLISH', root .. ':news:' .. id, '')
return 1
