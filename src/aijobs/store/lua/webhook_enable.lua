-- Switches the app's own address on again; whether it was off.
--
-- KEYS[1] key prefix   ARGV[1] digest of the address

return redis.call('DEL', KEYS[1] .. ':webhooks:off:' .. ARGV[1])
