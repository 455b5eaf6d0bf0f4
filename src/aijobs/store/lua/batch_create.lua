-- Makes the record of a batch and reserves its idempotency key, or finds the first batch of that key.
--
-- KEYS[1] key prefix
-- ARGV[1] batch id, escaped            ARGV[4] time to live, microseconds
-- ARGV[2] idempotency key ('' = none)  ARGV[5…] more fields of the record, name and value in turn
-- ARGV[3] its fingerprint
--
-- Returns {'created' | 'exists' | 'conflict', the record as HGETALL gives it}.
-- The remembered batch of an idempotency key is written as fingerprint, newline, escaped id.

local root = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] .. string.format('%06d', clock[2])

local reservation = ARGV[2] ~= '' and root .. ':idem:' .. ARGV[2]
if reservation then
  local fingerprint, first = string.match(redis.call('GET', reservation) or '', '^(.-)\n(.*)$')
  local found = first and redis.call('HGETALL', root .. ':batch:' .. first .. ':record') or {}
  if #found > 0 then
    if fingerprint ~= ARGV[3] then return {'conflict', {}} end
    return {'exists', found}
  end
end
local record = root .. ':batch:' .. ARGV[1] .. ':record'
local milliseconds = math.ceil(tonumber(ARGV[4]) / 1000)
redis.call('HSET', record, 'created', now, 'rev', 1, 'seq', 0, 'kept', 0, 'queued', 0, 'running', 0, 'success', 0,
  'failed', 0, 'revoked', 0, unpack(ARGV, 5))
redis.call('PEXPIRE', record, milliseconds)
if reservation then
  -- At least a day, as for a single job.
  redis.call('SET', reservation, ARGV[3] .. '\n' .. ARGV[1], 'PX', math.max(milliseconds, 86400000))
  redis.call('HSET', record, 'idem', ARGV[2])
end
return {'created', redis.call('HGETALL', record)}
