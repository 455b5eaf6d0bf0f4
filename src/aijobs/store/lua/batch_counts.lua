-- How the record of a batch keeps up with its jobs. It is made before them; a batch id that has none only lists jobs.

-- How many jobs of a batch have each status, how many are known at all, and how many are over.
local function batch_counts(record)
  local counts, known, over = redis.call('HMGET', record, 'queued', 'running', 'success', 'failed', 'revoked'), 0, 0
  for i, count in ipairs(counts) do
    known = known + tonumber(count)
    if i > 2 then over = over + tonumber(count) end
  end
  return counts, known, over
end

local function tell_batch(root, batch, most, counts, kind, ...)
  local listing = root .. ':batch:' .. batch
  local seq = redis.call('HINCRBY', listing .. ':record', 'seq', 1)
  redis.call('XADD', listing .. ':events', 'MAXLEN', '~', most, seq .. '-0', 't', kind, 'n', table.concat(counts, ','), ...)
end

-- What there is of a batch: its list, its record, its events and its idempotency key, which may outlive it.
local function batch_keys(root, batch)
  local listing = root .. ':batch:' .. batch
  local idem = redis.call('HGET', listing .. ':record', 'idem')
  return {listing, listing .. ':record', listing .. ':events'}, idem and root .. ':idem:' .. idem
end

-- A batch lives as long as the last of its jobs.
local function keep_batch(root, batch, milliseconds, least_idempotency)
  local keys, reservation = batch_keys(root, batch)
  for _, kept in ipairs(keys) do
    if redis.call('PTTL', kept) < milliseconds then redis.call('PEXPIRE', kept, milliseconds) end
  end
  if reservation then redis.call('PEXPIRE', reservation, math.max(milliseconds, least_idempotency)) end
end

-- After the counts have changed: the revision, the end with the last job, and the notice that wakes readers.
local function settle_batch(root, batch, now, most)
  local record = root .. ':batch:' .. batch .. ':record'
  local counts, _, over = batch_counts(record)
  local total, completed, kept = unpack(redis.call('HMGET', record, 'total', 'completed', 'kept'))
  redis.call('HINCRBY', record, 'rev', 1)
  if over < tonumber(total) then
    redis.call('HDEL', record, 'completed', 'expires')
  elseif not completed then
    redis.call('HSET', record, 'completed', now, 'expires', kept)
    tell_batch(root, batch, most, counts, 'batch.completed')
    for _, key in ipairs((batch_keys(root, batch))) do
      redis.call('PEXPIREAT', key, string.format('%.0f', math.ceil(tonumber(kept) / 1000)))
    end
  end
  redis.call('PUBLISH', root .. ':news:batch:' .. batch, '')
end

-- When the last job that is over leaves the store.
local function keep_batch_until(record, expires)
  if tonumber(expires) > tonumber(redis.call('HGET', record, 'kept')) then redis.call('HSET', record, 'kept', expires) end
end

-- Counts a change of a job: `member` has its id, custom_id, the status it is counted as (nil = not yet), its status, whether
-- it is over, and when it expires. Returns whether the job is counted as what it is now.
local function count_in_batch(root, batch, now, most, member)
  local record = root .. ':batch:' .. batch .. ':record'
  local total, cancelled = unpack(redis.call('HMGET', record, 'total', 'cancel_requested'))
  if not total then return false end
  if not member.counted then
    -- A cancel has counted as revoked what came after it. What was deleted is still counted, and not once more.
    local _, known = batch_counts(record)
    if known >= tonumber(total) then return cancelled and member.status == 'revoked' end
  else
    redis.call('HINCRBY', record, member.counted, -1)
  end
  redis.call('HINCRBY', record, member.status, 1)
  if member.over then keep_batch_until(record, member.expires) end
  tell_batch(root, batch, most, batch_counts(record), 'batch.progress', 'j', member.id, 'c', member.custom_id, 's', member.status)
  settle_batch(root, batch, now, most)
  return true
end

