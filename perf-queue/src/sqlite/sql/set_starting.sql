UPDATE perf_queue_past SET closed = NULL, own = ?2 WHERE queue = ?1
