SELECT count(*) FROM perf_queue_dead WHERE queue = ?1
