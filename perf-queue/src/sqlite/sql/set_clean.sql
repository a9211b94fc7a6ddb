UPDATE perf_queue SET clean = ?2 WHERE id = ?1
