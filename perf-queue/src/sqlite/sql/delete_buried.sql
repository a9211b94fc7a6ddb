DELETE FROM perf_queue_job WHERE seq IN (SELECT value ->> 0 FROM json_each(?1))
