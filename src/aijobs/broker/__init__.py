"""The Redis broker as aijobs uses it: messages held under leases, and what is in its queues."""
