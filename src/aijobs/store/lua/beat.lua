-- Notes that a worker is alive and what it runs, and tells it how these jobs stand.
--
-- KEYS[1] key prefix       ARGV[4] microseconds for which this holds
-- ARGV[1] session          ARGV[5] facts about the worker, JSON
-- ARGV[2] worker           ARGV[6…] job ids and claims in turn
-- ARGV[3] what it runs: a line for each job, id, space and claim
--
-- Returns 'held', 'cancel' or 'lost' for each job.

local root = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] .. string.format('%06d', clock[2])
local lease = tonumber(ARGV[4])
local FINISHED = {success = true, failed = true, revoked = true}

redis.call('ZREMRANGEBYSCORE', root .. ':workers', '-inf', now)
redis.call('ZADD', root .. ':workers', string.format('%.0f', tonumber(now) + lease), ARGV[1])
-- Another worker may have a longer lease.
if redis.call('PTTL', root .. ':workers') < lease / 1000 then
  redis.call('PEXPIRE', root .. ':workers', math.ceil(lease / 1000))
end
local worker = root .. ':worker:' .. ARGV[1]
redis.call('HSET', worker, 'name', ARGV[2], 'running', ARGV[3], 'facts', ARGV[5], 'seen', now)
redis.call('PEXPIRE', worker, math.ceil(lease / 1000))

local function standing(job_id, claim)
  local status, current, lost, cancel = unpack(redis.call('HMGET', root .. ':job:' .. job_id, 'status', 'claim', 'lost',
    'cancel_requested'))
  if not status then return 'held' end
  if current == claim then return not FINISHED[status] and cancel and 'cancel' or 'held' end
  if FINISHED[status] or string.find(lost or '', ',' .. claim .. ',', 1, true) then return 'lost' end
  return 'held'
end

local standings = {}
for i = 6, #ARGV, 2 do standings[#standings + 1] = standing(ARGV[i], ARGV[i + 1]) end
return standings
