SELECT rules, paused, hold FROM perf_queue_state WHERE queue = ?1
