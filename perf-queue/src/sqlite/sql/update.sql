UPDATE perf_queue_job
SET attempt = coalesce(change.value ->> 1, attempt),
    due = coalesce(change.value ->> 2, due),
    place = coalesce(change.value ->> 3, place),
    started = change.value ->> 4,
    errors = iif(json_array_length(change.value, '$[5]') = 0, errors, (
        SELECT json_group_array(value) FROM (
            SELECT value FROM (
                SELECT value, key, 0 AS later FROM json_each(coalesce(errors, '[]'))
                UNION ALL
                SELECT value, key, 1 FROM json_each(change.value, '$[5]')
                ORDER BY later DESC, key DESC
                LIMIT 10
            )
            ORDER BY later, key
        )
    ))
FROM json_each(?) AS change
WHERE perf_queue_job.seq = change.value ->> 0
