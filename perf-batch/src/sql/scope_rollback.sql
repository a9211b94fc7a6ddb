ROLLBACK TO SAVEPOINT perf_batch_scope;
RELEASE SAVEPOINT perf_batch_scope
