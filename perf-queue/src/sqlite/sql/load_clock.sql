SELECT boot, up FROM perf_queue_clock WHERE queue = ?1 AND wall = ?2
