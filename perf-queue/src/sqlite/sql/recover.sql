UPDATE perf_queue_job
SET started = 0,
    attempt = attempt + 1,
    errors = (
        SELECT json_group_array(value) FROM (
            SELECT value FROM (
                SELECT value, key, 0 AS later FROM json_each(coalesce(errors, '[]'))
                UNION ALL
                SELECT ?2, 0, 1
                ORDER BY later DESC, key DESC
                LIMIT 10
            )
            ORDER BY later, key
        )
    )
WHERE queue = ?1 AND started = 1
