INSERT OR REPLACE INTO perf_queue_keys (queue, keys) VALUES (?1, ?2)
