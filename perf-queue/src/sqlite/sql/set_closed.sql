UPDATE perf_queue_past SET closed = ?2 WHERE queue = ?1
