-- A page of jobs, newest first, merged from sorted sets whose scores are creation times.
--
-- KEYS[1]  key prefix
-- ARGV[1]  jobs wanted                     ARGV[5]  oldest creation time, microseconds, or '-inf'
-- ARGV[2]  jobs looked at, at most         ARGV[6]  task that must match ('' = any)
-- ARGV[3]  newest creation time, or '+inf' ARGV[7]  owner that must match ('' = any)
-- ARGV[4]  id after which to go on at the   ARGV[8]  statuses that must match, each between commas ('' = any)
--          newest creation time ('' = none) ARGV[9…] the sorted sets
--
-- Returns {records as HGETALL gives them, each as JSON text; position after the last job looked at: creation time, id};
-- the position is '' at the end.

local root, wanted, budget, top, after = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local page, looked_at = {}, 0

-- Newest first; equal times by descending id, as ZREVRANGEBYSCORE has it.
local function is_before(a, b)
  if a.score ~= b.score then return tonumber(a.score) > tonumber(b.score) end
  return a.id > b.id
end

-- The next jobs of all sets in order. A set that was cut off may hold more jobs just below its last row, so what
-- lies below that row waits for the next round.
local function next_candidates()
  local found, floor = {}, nil
  for i = 9, #ARGV do
    local size, rows = wanted + 1, nil
    repeat
      rows = redis.call('ZREVRANGEBYSCORE', ARGV[i], top, ARGV[5], 'WITHSCORES', 'LIMIT', 0, size)
      size = size * 2
      -- Jobs that share the top creation time and were looked at already must not fill the window.
    until #rows < size or after == '' or tonumber(rows[#rows]) < tonumber(top)
    for j = 1, #rows, 2 do
      if after == '' or tonumber(rows[j + 1]) < tonumber(top) or rows[j] < after then
        found[#found + 1] = {id = rows[j], score = rows[j + 1]}
      end
    end
    local last = {id = rows[#rows - 1], score = rows[#rows]}
    if #rows == size and (not floor or is_before(last, floor)) then floor = last end
  end
  table.sort(found, is_before)
  return found, floor
end

local function matches(job_key)
  local told = redis.call('HMGET', job_key, 'status', 'task', 'owner')
  return told[1]
    and (ARGV[6] == '' or told[2] == ARGV[6])
    and (ARGV[7] == '' or told[3] == ARGV[7])
    and (ARGV[8] == '' or string.find(ARGV[8], ',' .. told[1] .. ',', 1, true))
end

while true do
  local found, floor = next_candidates()
  if #found == 0 then return {page, '', ''} end
  for _, candidate in ipairs(found) do
    if floor and is_before(floor, candidate) then break end
    if #page == wanted or looked_at == budget then return {page, top, after} end
    looked_at = looked_at + 1
    top, after = candidate.score, candidate.id
    local job_key = root .. ':job:' .. candidate.id
    if matches(job_key) then page[#page + 1] = cjson.encode(redis.call('HGETALL', job_key)) end
  end
end
