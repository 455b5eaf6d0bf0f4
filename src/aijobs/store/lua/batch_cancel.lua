-- Notes that a batch is to be cancelled: what it has no record of yet will not run, and is counted as revoked.
--
-- KEYS[1] key prefix                ARGV[2] events kept, about
-- ARGV[1] batch id, escaped         ARGV[3] time to live of a finished job, microseconds
--
-- Returns the ids of its jobs that are not over, or nothing where there is no such batch.

local root = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] .. string.format('%06d', clock[2])
local listing = root .. ':batch:' .. ARGV[1]
local record = listing .. ':record'

local total, completed, cancelled = unpack(redis.call('HMGET', record, 'total', 'completed', 'cancel_requested'))
if not total then return nil end
if not completed and not cancelled then
  redis.call('HSET', record, 'cancel_requested', now)
  local _, known = batch_counts(record)
  redis.call('HINCRBY', record, 'revoked', total - known)
  keep_batch_until(record, string.format('%.0f', tonumber(now) + tonumber(ARGV[3])))
  settle_batch(root, ARGV[1], now, ARGV[2])
end
local unfinished = {}
for _, member in ipairs(redis.call('ZRANGE', listing, 0, -1)) do
  local status = redis.call('HGET', root .. ':job:' .. member, 'status')
  if status == 'queued' or status == 'running' then unfinished[#unfinished + 1] = member end
end
return unfinished
