SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'perf_queue_job'), 0)
