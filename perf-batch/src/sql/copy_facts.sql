SELECT
    inet_server_addr() IS NULL,
    relkind IN ('r', 'p') AND NOT relhasrules AND NOT relrowsecurity AND NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = pg_class.oid AND attname = ANY ($2) AND attidentity = 'a'
    )
FROM pg_class
WHERE oid = to_regclass($1)
