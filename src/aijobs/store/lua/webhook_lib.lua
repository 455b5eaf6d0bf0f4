-- Shared by the scripts that deal with one event that is to be told; it is put in front of each of them.
--
-- KEYS[1] key prefix   ARGV[1] job id   ARGV[2] the event's sequence number   ARGV[3] digest of the app's own address

local root, id, seq = KEYS[1], ARGV[1], ARGV[2]
local key = root .. ':webhook:' .. id .. ':' .. seq
local due = root .. ':webhooks:due'
local clock = redis.call('TIME')
local now = clock[1] .. string.format('%06d', clock[2])

-- What says that the event's address was switched off: a job's own for that job, the app's for all.
local function switch()
  if redis.call('HEXISTS', key, 'url') == 1 then return root .. ':job:' .. id .. ':webhooks:off' end
  return root .. ':webhooks:off:' .. ARGV[3]
end

-- Nothing is told of the event before this time.
local function rest_until(moment)
  redis.call('HSET', key, 'next', moment)
  redis.call('ZADD', due, moment, id .. '\n' .. seq)
  redis.call('PEXPIRE', due, redis.call('PTTL', key))
end
