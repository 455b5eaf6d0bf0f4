-- Events that are due to be told. Each is left alone for a while then, and for twice that after each time that it was
-- taken and nobody began to tell it, as while the queue is long.
--
-- KEYS[1] key prefix   ARGV[1] events wanted, at most   ARGV[2] microseconds
--
-- Returns a list for each: job id, sequence number.

local LONGEST = 6

local root = KEYS[1]
local due = root .. ':webhooks:due'
local clock = redis.call('TIME')
local now = clock[1] .. string.format('%06d', clock[2])
local found = {}

for _, member in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local id, seq = string.match(member, '^(.*)\n(%d+)$')
  local key = root .. ':webhook:' .. id .. ':' .. seq
  if redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', due, member)
  else
    local times = redis.call('HINCRBY', key, 'taken', 1)
    local wait = tonumber(ARGV[2]) * 2 ^ math.min(times - 1, LONGEST)
    redis.call('ZADD', due, string.format('%.0f', tonumber(now) + wait), member)
    found[#found + 1] = {id, seq}
  end
end
return found
