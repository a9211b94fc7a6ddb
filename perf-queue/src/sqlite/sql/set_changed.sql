UPDATE perf_queue_past SET changed = ?2 WHERE queue = ?1
