-- The events of a job after a sequence number, oldest first.
--
-- KEYS[1] key prefix   ARGV[1] job id   ARGV[2] sequence number   ARGV[3] events wanted, at most
-- ARGV[4] bytes of their data wanted, about; the first two events are given however long they are

local stream = KEYS[1] .. ':job:' .. ARGV[1] .. ':events'
local found = redis.call('XRANGE', stream, '(' .. ARGV[2] .. '-18446744073709551615', '+', 'COUNT', ARGV[3])
local size, given = 0, {}
for number, entry in ipairs(found) do
  size = size + #entry[2][4]
  if number > 2 and size > tonumber(ARGV[4]) then break end
  given[number] = entry
end
return given
