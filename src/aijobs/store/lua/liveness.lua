-- Whether the worker of a claim is alive and still runs what was begun under it.
--
-- A claim is the worker's session, a dot, and a number. A worker that lives may have lost the process that ran the job,
-- so what it said of itself counts, but for jobs that began at about that time.

local function lives(root, now, claim, started)
  local session = string.match(claim, '^(.-)%.')
  if not session then return false end
  local expiry = redis.call('ZSCORE', root .. ':workers', session)
  if not expiry or tonumber(expiry) < tonumber(now) then return false end
  local told = redis.call('HMGET', root .. ':worker:' .. session, 'running', 'seen')
  if not told[1] then return false end
  return string.find(told[1], ' ' .. claim .. '\n', 1, true) ~= nil or tonumber(started) + 3000000 > tonumber(told[2])
end

