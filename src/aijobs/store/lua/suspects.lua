-- Unfinished jobs that may have been lost: queued for long, or running in a worker that is gone.
--
-- KEYS[1] key prefix   ARGV[1] microseconds that a job may be queued   ARGV[2] jobs looked at in a queue, at most
--
-- One process looks at a time: nothing is returned until a third of that time has passed since the last look. When nobody
-- looked for long, as while the server was away, workers first get the whole time to say that they are alive.
-- Returns a list for each: id, task, queue, status, revision.

local root = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] .. string.format('%06d', clock[2])
local grace, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local before = tonumber(now) - grace
local state = root .. ':reconcile'
local found = {}

local last = redis.call('HGET', state, 'at')
if last and tonumber(now) - tonumber(last) < grace / 3 then return found end
if not last or tonumber(now) - tonumber(last) > grace then redis.call('HSET', state, 'since', now) end
redis.call('HSET', state, 'at', now)
redis.call('PEXPIRE', state, 86400000)
if tonumber(now) - tonumber(redis.call('HGET', state, 'since')) < grace then return found end

-- The next jobs of a listing; the look after the last ones begins anew.
local function next_of(listing, oldest)
  local offset = tonumber(redis.call('HGET', state, listing) or '0')
  local ids = redis.call('ZRANGEBYSCORE', listing, '-inf', oldest, 'LIMIT', offset, most)
  redis.call('HSET', state, listing, #ids < most and 0 or offset + most)
  return ids
end

local function is_waiting(scheduled, checked)
  return (not scheduled or tonumber(scheduled) < before) and (not checked or tonumber(checked) < tonumber(now))
end

local function look(job_id)
  local status, task, queue, rev, scheduled, checked, claim, started = unpack(redis.call('HMGET', root .. ':job:' .. job_id,
    'status', 'task', 'queue', 'rev', 'scheduled', 'checked', 'claim', 'started'))
  if status == 'queued' and is_waiting(scheduled, checked)
    or status == 'running' and not lives(root, now, claim or '', started or '0') then
    found[#found + 1] = {job_id, task, queue, status, rev}
  end
end

for _, queue in ipairs(redis.call('SMEMBERS', root .. ':queues')) do
  for _, job_id in ipairs(next_of(root .. ':queue:' .. queue, string.format('%.0f', before))) do look(job_id) end
end
for _, job_id in ipairs(next_of(root .. ':jobs:running', '+inf')) do look(job_id) end
return found
