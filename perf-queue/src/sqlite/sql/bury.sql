INSERT INTO perf_queue_dead
    (queue, id_hi, id_lo, priority, attempts, enqueued, died, payload, trace, errors)
SELECT queue, id_hi, id_lo, priority, coalesce(change.value ->> 1, attempt), enqueued,
    change.value ->> 2, payload, trace, (
        SELECT json_group_array(value) FROM (
            SELECT value FROM (
                SELECT value, key, 0 AS later FROM json_each(coalesce(errors, '[]'))
                UNION ALL
                SELECT value, key, 1 FROM json_each(change.value, '$[3]')
                ORDER BY later DESC, key DESC
                LIMIT 10
            )
            ORDER BY later, key
        )
    )
FROM json_each(?1) AS change
CROSS JOIN perf_queue_job ON perf_queue_job.seq = change.value ->> 0
ORDER BY change.key
