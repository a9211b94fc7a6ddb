DELETE FROM perf_queue_keys WHERE queue = ?1
