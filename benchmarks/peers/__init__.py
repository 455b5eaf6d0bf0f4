"""The jobs of `benchmarks.waiting` for each library, each run by a worker in an environment of its own."""

#: Where the ids of all jobs are, in the order in which they were queued, and what their worker measured.
IDS_KEY = "bench:ids"
RUN_KEY = "bench:run"
