INSERT INTO perf_queue_job
    (queue, id_hi, id_lo, priority, enqueued, due, place, payload, trace)
VALUES
