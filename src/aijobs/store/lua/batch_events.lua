-- The events of a batch after a sequence number, oldest first.
--
-- KEYS[1] key prefix   ARGV[1] batch id, escaped   ARGV[2] sequence number   ARGV[3] events wanted, at most

return redis.call('XRANGE', KEYS[1] .. ':batch:' .. ARGV[1] .. ':events', '(' .. ARGV[2] .. '-18446744073709551615', '+',
  'COUNT', ARGV[3])
