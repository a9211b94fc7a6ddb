-- Where there are more rows than jobs, those at the end have no queue.
INSERT INTO perf_queue_job
    (queue, id_hi, id_lo, priority, enqueued, due, place, payload, trace)
SELECT * FROM (VALUES (?)) WHERE column1 IS NOT NULL
