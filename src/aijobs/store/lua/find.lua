-- Put in front of what reads a record.

-- The record as HGETALL gives it, as JSON text, which is read much faster than a list of many; how many jobs of its queue
-- are ahead while it is queued, plus one; and its fields. Nothing without a record.
local function find(root, id)
  local record = redis.call('HGETALL', root .. ':job:' .. id)
  if #record == 0 then return end
  local fields, position = {}, 0
  for i = 1, #record, 2 do fields[record[i]] = record[i + 1] end
  if fields.status == 'queued' then
    local queue = string.match(fields.entry, '^[^\n]*\n[^\n]*\n([^\n]*)')
    position = redis.call('ZCOUNT', root .. ':queue:' .. queue, '-inf', '(' .. fields.created) + 1
  end
  return cjson.encode(record), position, fields
end
