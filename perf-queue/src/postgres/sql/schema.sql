-- `CREATE SCHEMA IF NOT EXISTS` would ask for a right that is not needed where there is one.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {literal}) THEN
        CREATE SCHEMA {schema};
    END IF;
END $$;

