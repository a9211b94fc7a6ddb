DELETE FROM perf_queue_unique WHERE until <= ?1
