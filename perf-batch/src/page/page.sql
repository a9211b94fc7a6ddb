WITH perf_rows AS NOT MATERIALIZED (
{query}
)
SELECT perf_page.*, perf_count.perf_total
FROM (SELECT count(*) AS perf_total FROM perf_rows) AS perf_count
LEFT JOIN (
SELECT perf_rows.*, 1 AS perf_there
FROM perf_rows
ORDER BY {order_by}
LIMIT ${limit} OFFSET ${offset}
) AS perf_page ON true
ORDER BY {order_by}
