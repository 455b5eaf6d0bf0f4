-- Counts of the retained jobs, and the workers that are alive.
--
-- KEYS[1]  key prefix
-- ARGV[1]  owner, escaped ('' = all)
-- ARGV[2…] tasks, escaped
--
-- Returns {counts by status, counts by task and status, queues and their depths, workers and microseconds of silence}.
-- Statuses are in the order queued, running, success, failed, revoked.

local root = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local scope = ARGV[1] == '' and root .. ':jobs' or root .. ':owner:' .. ARGV[1]

local function count(listing)
  local counts = {}
  for _, status in ipairs({'queued', 'running', 'success', 'failed', 'revoked'}) do
    counts[#counts + 1] = redis.call('ZCARD', listing .. ':' .. status)
  end
  return counts
end

local tasks = {}
for i = 2, #ARGV do tasks[#tasks + 1] = count(scope .. ':task:' .. ARGV[i]) end

local queues = {}
for _, queue in ipairs(redis.call('SMEMBERS', root .. ':queues')) do
  local depth = redis.call('ZCARD', root .. ':queue:' .. queue)
  if depth > 0 then queues[#queues + 1], queues[#queues + 2] = queue, depth end
end

local workers = {}
for _, session in ipairs(redis.call('ZRANGEBYSCORE', root .. ':workers', string.format('%.0f', now), '+inf')) do
  local name, seen = unpack(redis.call('HMGET', root .. ':worker:' .. session, 'name', 'seen'))
  if name then workers[#workers + 1], workers[#workers + 2] = name, string.format('%.0f', now - tonumber(seen)) end
end
return {count(scope), tasks, queues, workers}
