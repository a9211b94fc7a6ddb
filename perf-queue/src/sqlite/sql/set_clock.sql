INSERT OR REPLACE INTO perf_queue_clock (queue, wall, boot, up) VALUES (?1, ?2, ?3, ?4)
