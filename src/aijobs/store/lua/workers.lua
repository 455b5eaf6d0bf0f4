-- The workers that are alive and what they run.
--
-- KEYS[1] key prefix
--
-- Returns a list for each: session, name, microseconds of silence, facts, fields and values of each of its jobs.

local root = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] .. string.format('%06d', clock[2])
local SHOWN = {'id', 'task', 'status', 'rev', 'seq', 'created', 'expires', 'attempt', 'max_attempts', 'progress', 'detail',
  'owner', 'queue', 'worker', 'started', 'first_started', 'cancel_requested'}

local function shown(job_id, claim)
  local job = root .. ':job:' .. job_id
  if redis.call('HGET', job, 'claim') ~= claim or redis.call('HGET', job, 'status') ~= 'running' then return nil end
  local flat = {}
  for i, value in ipairs(redis.call('HMGET', job, unpack(SHOWN))) do
    if value then flat[#flat + 1], flat[#flat + 2] = SHOWN[i], value end
  end
  return flat
end

local found = {}
for _, session in ipairs(redis.call('ZRANGEBYSCORE', root .. ':workers', now, '+inf')) do
  local name, seen, facts, running = unpack(redis.call('HMGET', root .. ':worker:' .. session, 'name', 'seen', 'facts',
    'running'))
  if name then
    local jobs = {}
    for job_id, claim in string.gmatch(running, '([^\n]*) ([^ \n]*)\n') do jobs[#jobs + 1] = shown(job_id, claim) end
    found[#found + 1] = {session, name, string.format('%.0f', tonumber(now) - tonumber(seen)), facts, jobs}
  end
end
return found
