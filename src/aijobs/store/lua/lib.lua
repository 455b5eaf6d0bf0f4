-- Shared by all scripts that change one job; it is put in front of each of them.
--
-- KEYS[1]   key prefix
-- ARGV[1]   job id                       ARGV[7]   worker
-- ARGV[2]   claim ('' = no attempt)      ARGV[8]   max attempts ('' = unknown)
-- ARGV[3]   time to live, microseconds   ARGV[9]   index entry: owner, task, queue, batch (escaped, one a line)
-- ARGV[4]   events kept, about           ARGV[10]  Celery result: key ('' = none)
-- ARGV[5]   task                         ARGV[11]  Celery result: payload
-- ARGV[6]   queue                        ARGV[12]  Celery result: time to live, seconds (0 = for ever)
-- ARGV[13…] what the script itself takes
--
-- Keys are built from the prefix, so the store needs one Redis or Valkey server, not a cluster.
-- Times are microseconds of the server's own clock, as text: a Lua number prints only 14 digits.

local root, id, claim = KEYS[1], ARGV[1], ARGV[2]
local key = root .. ':job:' .. id
local stream = key .. ':events'

-- What attempts keep for those after them, by name. The field without a name says how many bytes that is, and how often
-- the task had been replaced by another.
local kept = key .. ':kept'

local clock = redis.call('TIME')
local now = clock[1] .. string.format('%06d', clock[2])

local FINISHED = {success = true, failed = true, revoked = true}
local STATUSES = {'queued', 'running', 'success', 'failed', 'revoked'}

-- An idempotency key is kept as long as its job, and at least a day.
local LEAST_IDEMPOTENCY = 86400000

-- Of the claims that lost the job, so many characters are remembered: the newest hundred or so.
local LOST_LENGTH = 2000

-- A message's generation: how often its job was replaced by another task, times this, plus how often it was retried or
-- sent again to wait for a provider.
local REPLACED = 1000000

-- The kinds of events that a webhook may be told, and how long one is kept to be told, milliseconds.
local TOLD = {['job.status'] = true, ['job.attempt'] = true, ['job.completed'] = true}
local LONGEST_TELLING = 345600000

-- How the text of a piece begins and ends, and how long a line of several may become, bytes.
local TEXT, AFTER_TEXT = '{"text":"', '"}'
local LONGEST_LINE = 4096

-- Of a job's earlier runs, so many are remembered.
local MOST_RUNS = 20

-- Whether anything was written that readers have to be told of.
local changed = false

local function milliseconds_to_live()
  return math.ceil(tonumber(ARGV[3]) / 1000)
end

local function later(microseconds)
  return string.format('%.0f', tonumber(now) + tonumber(microseconds))
end

local function split(entry)
  local parts = {}
  for part in string.gmatch(entry .. '\n', '(.-)\n') do parts[#parts + 1] = part end
  return parts[1] or '', parts[2] or '', parts[3] or '', parts[4] or ''
end

-- The sorted sets that list a job while it has a status.
local function listings(entry, status)
  local owner, task = split(entry)
  local found = {root .. ':jobs:' .. status, root .. ':jobs:task:' .. task .. ':' .. status}
  if owner ~= '' then
    local own = root .. ':owner:' .. owner
    found[3], found[4] = own .. ':' .. status, own .. ':task:' .. task .. ':' .. status
  end
  return found
end

local function list_as(entry, status, created)
  for _, listing in ipairs(listings(entry, status)) do redis.call('ZADD', listing, created, id) end
  if status == 'queued' then
    local _, _, queue = split(entry)
    redis.call('SADD', root .. ':queues', queue)
    redis.call('ZADD', root .. ':queue:' .. queue, created, id)
  end
end

local function leave_batch(entry, member)
  local _, _, _, batch = split(entry)
  if batch ~= '' then redis.call('ZREM', root .. ':batch:' .. batch, member) end
end

local function unlist(entry, status, member)
  for _, listing in ipairs(listings(entry, status)) do redis.call('ZREM', listing, member) end
  if status == 'queued' then
    local _, _, queue = split(entry)
    redis.call('ZREM', root .. ':queue:' .. queue, member)
  end
end

-- Takes jobs whose retention has passed out of the indexes, a few at a time, so that no sweep is ever needed.
local function trim(most)
  local expiry = root .. ':expiry'
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, most)) do
    local gone, entry = string.match(member, '^(.*)\n([^\n]*\n[^\n]*\n[^\n]*\n[^\n]*)$')
    for _, status in ipairs(STATUSES) do unlist(entry, status, gone) end
    leave_batch(entry, gone)
    redis.call('ZREM', expiry, member)
  end
end

-- Keeps what a webhook is to be told of an event, when the record wants that: nothing that happens to the record later
-- changes it, and no process can forget it.
local function announce(kind, seq)
  local wanted = TOLD[kind] and redis.call('HGET', key, 'webhook_events')
  if not wanted or not string.find(' ' .. wanted .. ' ', ' ' .. kind .. ' ', 1, true) then return end
  local f = redis.call('HMGET', key, 'task', 'status', 'attempt', 'batch_id', 'metadata', 'webhook_url')
  local told, due = root .. ':webhook:' .. id .. ':' .. seq, root .. ':webhooks:due'
  -- The revision is that which the change comes to, at its end.
  redis.call('HSET', told, 'type', kind, 'at', now, 'task', f[1], 'status', f[2], 'job_attempt', f[3],
    'rev', tonumber(redis.call('HGET', key, 'rev') or '0') + 1)
  if f[4] then redis.call('HSET', told, 'batch_id', f[4]) end
  if f[5] then redis.call('HSET', told, 'metadata', f[5]) end
  if f[6] then redis.call('HSET', told, 'url', f[6]) end
  redis.call('PEXPIRE', told, LONGEST_TELLING)
  redis.call('ZADD', due, now, id .. '\n' .. seq)
  redis.call('PEXPIRE', due, LONGEST_TELLING)
end

local function emit(kind, data)
  changed = true
  local seq = redis.call('HINCRBY', key, 'seq', 1)
  announce(kind, seq)
  redis.call('XADD', stream, 'MAXLEN', '~', ARGV[4], seq .. '-0', 't', kind, 'd', data)
end

-- Has the job's batch keep up with it.
local function tell_own_batch(job, expires)
  local _, _, _, batch = split(job.entry)
  if batch == '' then return end
  if job.counted ~= job.status then
    local member = {
      id = id, counted = job.counted, status = job.status, over = FINISHED[job.status], expires = expires,
      custom_id = cjson.decode(redis.call('HGET', key, 'metadata') or '{}').custom_id or '',
    }
    if count_in_batch(root, batch, now, ARGV[4], member) then redis.call('HSET', key, 'counted', job.status) end
  end
  keep_batch(root, batch, milliseconds_to_live(), LEAST_IDEMPOTENCY)
end

-- The end of every accepted change: revision, lifetime, Celery's result, and the notice that wakes readers.
local function commit(job)
  local expires = later(ARGV[3])
  redis.call('HINCRBY', key, 'rev', 1)
  redis.call('HSET', key, 'expires', expires)
  redis.call('ZADD', root .. ':expiry', expires, id .. '\n' .. job.entry)
  local milliseconds = milliseconds_to_live()
  redis.call('PEXPIRE', key, milliseconds)
  redis.call('PEXPIRE', stream, milliseconds)
  if job.said > 0 then redis.call('PEXPIRE', key .. ':output', milliseconds) end
  redis.call('PEXPIRE', kept, milliseconds)
  tell_own_batch(job, expires)
  if job.idem then
    redis.call('PEXPIRE', root .. ':idem:' .. job.idem, math.max(milliseconds, LEAST_IDEMPOTENCY))
  end
  redis.call('PUBLISH', root .. ':news:' .. id, '')
end

-- The end of a change that gave something out and left the record as it was; now and then the record is made to live on.
local function commit_output(job)
  if redis.call('PTTL', key) < milliseconds_to_live() / 2 then return commit(job) end
  for _, written in ipairs({stream, key .. ':output'}) do redis.call('PEXPIRE', written, redis.call('PTTL', key)) end
  redis.call('PUBLISH', root .. ':news:' .. id, '')
end

local function write_result()
  if ARGV[10] == '' then return end
  if ARGV[12] == '0' then
    redis.call('SET', ARGV[10], ARGV[11])
  else
    redis.call('SET', ARGV[10], ARGV[11], 'EX', ARGV[12])
  end
  redis.call('PUBLISH', ARGV[10], ARGV[11])
end

-- How many bytes are kept for messages of a generation, and how often the task had been replaced by then. What another
-- task kept means nothing to the one that replaces it, so that goes.
local function size_kept(generation)
  local replaced = math.floor(tonumber(generation) / REPLACED)
  local size, by = string.match(redis.call('HGET', kept, '') or '', '^(%d+) (%d+)$')
  if tonumber(by) == replaced then return tonumber(size), replaced end
  redis.call('DEL', kept)
  return 0, replaced
end

local function load_job()
  local f = redis.call('HMGET', key, 'status', 'claim', 'attempt', 'lost', 'entry', 'cancel_requested', 'created',
    'idem', 'started', 'losses', 'generation', 'counted', 'said')
  return {
    status = f[1] or '', claim = f[2] or '', attempt = tonumber(f[3] or '0'), lost = f[4] or ',',
    entry = f[5] or ARGV[9], cancel = f[6] and 1 or 0, created = f[7] or now, idem = f[8], started = f[9] or '0',
    losses = tonumber(f[10] or '0'), generation = tonumber(f[11] or '0'),
    counted = f[12] or nil, said = tonumber(f[13] or '0'),
  }
end

local function answer(accepted, job)
  return {accepted, job.status, job.attempt, job.cancel}
end

-- A record for a job that is heard of for the first time. `fields` may hold more than the common ones.
local function insert(fields)
  redis.call('HSET', key, 'id', id, 'status', 'queued', 'task', ARGV[5], 'queue', ARGV[6], 'max_attempts', ARGV[8],
    'entry', ARGV[9], 'created', now, 'attempt', 0, unpack(fields))
  list_as(ARGV[9], 'queued', now)
  local _, _, _, batch = split(ARGV[9])
  if batch ~= '' then redis.call('ZADD', root .. ':batch:' .. batch, now, id) end
  emit('job.status', cjson.encode({status = 'queued', attempt = 0}))
  trim(10)
end

-- The attempt that had the job has it no longer: nothing of it is accepted from now on.
local function fence_off(job)
  if job.claim ~= '' then
    job.lost, job.claim = string.sub(job.lost .. job.claim .. ',', -LOST_LENGTH), ''
    redis.call('HSET', key, 'lost', job.lost, 'claim', '')
  end
end

-- Takes a job out of all indexes.
local function leave_indexes(job)
  unlist(job.entry, job.status, id)
  leave_batch(job.entry, id)
  redis.call('ZREM', root .. ':expiry', id .. '\n' .. job.entry)
end

-- Clears a finished run away, so that the job can be inserted again; its events and revisions go on counting,
-- its attempts stay fenced off, and how it ended is remembered.
local function forget_run(job)
  fence_off(job)
  leave_indexes(job)
  local seq, rev, history, code, message, completed, retryable = unpack(redis.call('HMGET', key, 'seq', 'rev', 'history',
    'error_code', 'error_message', 'completed', 'error_retryable'))
  local runs = history and cjson.decode(history) or {}
  runs[#runs + 1] = {job.status, code or '', message or '', job.attempt, completed, retryable or ''}
  if #runs > MOST_RUNS then table.remove(runs, 1) end
  redis.call('DEL', key, key .. ':result', key .. ':output')
  redis.call('HSET', key, 'seq', seq, 'rev', rev, 'lost', job.lost, 'history', cjson.encode(runs))
  -- A run that is of no batch, or of another, leaves the old one as it was.
  local _, _, _, old = split(job.entry)
  local _, _, _, new = split(ARGV[9])
  if job.counted and old == new then redis.call('HSET', key, 'counted', job.counted) end
end

-- Jobs of publishers that do not know of the store get their record from the first worker that reports them. `events`
-- are those that the app's webhook wants, with spaces between.
local function load_or_adopt(events)
  local job = load_job()
  if job.status == '' and ARGV[5] ~= '' then
    insert(events ~= '' and {'webhook_events', events} or {})
    job = load_job()
  end
  return job
end

local function enter(job, status)
  unlist(job.entry, job.status, id)
  list_as(job.entry, status, job.created)
  redis.call('HSET', key, 'status', status)
  job.status = status
end

local function is_lost(job)
  return claim ~= '' and string.find(job.lost, ',' .. claim .. ',', 1, true)
end

-- A new attempt of the job: its claim fences off every older one.
local function open_attempt(job)
  if job.status == 'queued' then enter(job, 'running') end
  fence_off(job)
  job.attempt = redis.call('HINCRBY', key, 'attempt', 1)
  job.claim = claim
  redis.call('HSET', key, 'claim', claim, 'started', now, 'worker', ARGV[7])
  redis.call('HSETNX', key, 'first_started', now)
  -- An attempt whose process was lost takes nothing from those that the task may ask for.
  if ARGV[8] ~= '' then redis.call('HSET', key, 'max_attempts', tonumber(ARGV[8]) + job.losses) end
  redis.call('HDEL', key, 'scheduled', 'ended', 'progress', 'detail', 'said', 'output_of', 'output_bytes', 'output_cut')
  redis.call('DEL', key .. ':output')
  job.said = 0
  if job.attempt > 1 or job.lost ~= ',' then emit('job.attempt', cjson.encode({attempt = job.attempt})) end
  emit('job.status', cjson.encode({status = 'running', attempt = job.attempt}))
end

-- What went wrong in the attempt. After the code there may be a colon and 'yes' or 'no': whether to run the job again may
-- end better, where that is known better than by the code. Returns the code.
local function write_error(job, code, message, traceback)
  local name, retryable = string.match(code, '^([^:]*):?(.*)$')
  redis.call('HSET', key, 'error_code', name, 'error_retryable', retryable, 'error_message', message,
    'error_attempt', job.attempt, 'traceback', traceback)
  return name
end

-- The process that ran the attempt was lost.
local function lose(job, message)
  job.losses = redis.call('HINCRBY', key, 'losses', 1)
  if redis.call('HGET', key, 'max_attempts') ~= '' then redis.call('HINCRBY', key, 'max_attempts', 1) end
  write_error(job, 'worker_lost', message, '')
end

-- The end of a job whose cancel was asked for, where no task runs that could be asked to stop.
local function revoke(job, retention)
  ARGV[3] = retention
  if job.status == 'running' then redis.call('HSET', key, 'ended', now) end
  enter(job, 'revoked')
  redis.call('HSET', key, 'completed', now)
  write_error(job, 'cancelled', 'The job was cancelled while no attempt ran.', '')
  redis.call('HDEL', key, 'scheduled')
  emit('job.completed', cjson.encode({status = 'revoked', attempt = job.attempt}))
end

-- The last word on an attempt's progress, which comes with its end.
local function write_progress(fraction, detail)
  if detail ~= '' then redis.call('HSET', key, 'progress', fraction, 'detail', detail) end
end

local function is_text(piece)
  return string.sub(piece, 1, #TEXT) == TEXT
end

-- Keeps a piece at the end of the output. Short texts become one line, so that much output is quick to read.
local function keep_piece(output, piece)
  local last = is_text(piece) and redis.call('LINDEX', output, -1)
  if last and is_text(last) and #last + #piece <= LONGEST_LINE then
    redis.call('LSET', output, -1, string.sub(last, 1, -#AFTER_TEXT - 1) .. string.sub(piece, #TEXT + 1))
    return #piece - #TEXT - #AFTER_TEXT
  end
  redis.call('RPUSH', output, piece)
  return #piece
end

-- Lets the oldest lines go while there are too many bytes.
local function bound_output(output, size, most)
  while size > most do
    local line = redis.call('LPOP', output)
    size = line and size - #line or 0
    redis.call('HSET', key, 'output_cut', 1)
  end
  redis.call('HSET', key, 'output_bytes', size)
end

-- What the attempt has given out since. From ARGV[at] on: how many entries of it came before, most bytes to keep, then kind
-- and JSON of each entry. A writer that got no answer says the same again, so what is here already is skipped.
local function write_output(job, at)
  if not ARGV[at] then return end
  local output, size = key .. ':output', tonumber(redis.call('HGET', key, 'output_bytes') or '0')
  local before, count = tonumber(ARGV[at]), (#ARGV - at - 1) / 2
  for number = math.max(1, job.said - before + 1), count do
    local kind, piece = ARGV[at + 2 * number], ARGV[at + 2 * number + 1]
    emit(kind, '{"attempt":' .. job.attempt .. ',' .. string.sub(piece, 2))
    if kind == 'job.output' then size = size + keep_piece(output, piece) end
  end
  if before + count <= job.said then return end
  job.said = before + count
  redis.call('HSET', key, 'said', job.said)
  if size > 0 then redis.call('HSET', key, 'output_of', job.attempt) end
  bound_output(output, size, tonumber(ARGV[at + 1]))
end

-- Whether this writer may change the job now.
local function is_current(job)
  if job.status == '' or FINISHED[job.status] then return false end
  if claim == '' then return true end
  if job.status == 'running' then return job.claim == claim end
  return not is_lost(job)
end
