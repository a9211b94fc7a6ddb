-- What the server grants to this role in this database. Superusers are above the limits of role
-- and database; what the server keeps back for them is left to them all the same.
SELECT
    current_setting('max_connections')::bigint AS max_connections,
    current_setting('superuser_reserved_connections')::bigint
        -- since Postgres 16
        + coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::bigint AS reserved,
    session_user::text AS role,
    CASE WHEN NOT r.rolsuper AND r.rolconnlimit >= 0 THEN r.rolconnlimit::bigint END AS role_limit,
    current_database()::text AS database,
    CASE WHEN NOT r.rolsuper AND d.datconnlimit >= 0 THEN d.datconnlimit::bigint END AS database_limit
FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d
WHERE r.rolname = session_user AND d.datname = current_database()
