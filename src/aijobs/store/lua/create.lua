-- Makes the record of a new job, reserves its idempotency key and pushes its message, all or nothing.
--
-- ARGV[13] idempotency key ('' = none)   ARGV[16] message body
-- ARGV[14] its fingerprint               ARGV[17] number of the database that holds the list
-- ARGV[15] list to push to ('' = none)   ARGV[18] number of this database
-- ARGV[19] '1' when a finished job of this id is to run anew; a colon and its revision: if it is at that ('' = never)
-- ARGV[20] job that submitted it ('' = none)   ARGV[22] time to live of a finished job, microseconds
-- ARGV[21] Celery group ('' = none)
-- ARGV[23…] more fields of the record, name and value in turn
--
-- Returns {'created' | 'exists' | 'conflict' | 'gone', the record as HGETALL gives it, as JSON text: '' without one}.
-- The remembered job of an idempotency key is written as fingerprint, newline, id.

local reservation = ARGV[13] ~= '' and root .. ':idem:' .. ARGV[13]
if reservation then
  local fingerprint, first = string.match(redis.call('GET', reservation) or '', '^(.-)\n(.*)$')
  -- A job that never reached the broker holds its key no longer: the next submission with it is a new try.
  if first and redis.call('HGET', root .. ':job:' .. first, 'error_code') ~= 'publish_failed' then
    if fingerprint ~= ARGV[14] then return {'conflict', ''} end
    local record = redis.call('HGETALL', root .. ':job:' .. first)
    if #record == 0 then return {'gone', ''} end
    return {'exists', cjson.encode(record)}
  end
end
local before = load_job()
local meant = ARGV[19] == '1' or ARGV[19] == ':' .. (redis.call('HGET', key, 'rev') or '')
if before.status ~= '' and not (meant and FINISHED[before.status]) then
  return {'exists', cjson.encode(redis.call('HGETALL', key))}
end

-- What a job submits after it and its children were cancelled is not run; nor is what a batch gets after its cancel.
local _, _, _, batch = split(ARGV[9])
local stillborn = ARGV[20] ~= '' and redis.call('HGET', root .. ':job:' .. ARGV[20], 'cancel_children')
  or before.status == '' and batch ~= '' and redis.call('HGET', root .. ':batch:' .. batch .. ':record', 'cancel_requested')

-- A push that fails ends the script, so it comes first: nothing is undone when a script ends.
if ARGV[15] ~= '' and not stillborn then
  if ARGV[17] ~= ARGV[18] then redis.call('SELECT', ARGV[17]) end
  redis.call('LPUSH', ARGV[15], ARGV[16])
  if ARGV[17] ~= ARGV[18] then redis.call('SELECT', ARGV[18]) end
end
if before.status ~= '' then
  forget_run(before)
  -- A replay goes on with what was kept; another run under the same id may be for something else.
  if ARGV[19] == '1' then redis.call('DEL', kept) end
  -- Celery's result of the run before must not be taken for that of this one.
  if ARGV[10] ~= '' then redis.call('DEL', ARGV[10]) end
end
insert({unpack(ARGV, 23)})
for _, parent in ipairs({ARGV[20], ARGV[21]}) do
  if parent ~= '' then
    local children = root .. ':children:' .. parent
    redis.call('ZADD', children, now, id)
    redis.call('PEXPIRE', children, milliseconds_to_live())
  end
end
if reservation then
  redis.call('SET', reservation, ARGV[14] .. '\n' .. id)
  redis.call('HSET', key, 'idem', ARGV[13])
end
local job = load_job()
if stillborn then
  redis.call('HSET', key, 'cancel_requested', now)
  revoke(job, ARGV[22])
end
commit(job)
return {'created', cjson.encode(redis.call('HGETALL', key))}
