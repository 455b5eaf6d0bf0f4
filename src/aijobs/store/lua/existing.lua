-- Which of some jobs have a record.
--
-- KEYS[1] key prefix   ARGV[…] job ids

local found = {}
for _, job_id in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[1] .. ':job:' .. job_id) == 1 then found[#found + 1] = job_id end
end
return found
