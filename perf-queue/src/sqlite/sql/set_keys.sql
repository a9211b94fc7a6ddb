INSERT OR REPLACE INTO perf_queue_keys (queue, closed, keys) VALUES (?1, ?2, ?3)
