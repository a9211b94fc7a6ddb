RELEASE SAVEPOINT perf_batch;
SAVEPOINT perf_batch
