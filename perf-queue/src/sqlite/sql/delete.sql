DELETE FROM perf_queue_job WHERE seq IN (SELECT value FROM json_each(?))
