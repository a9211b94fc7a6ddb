-- A foreign key is checked when the statement ends: one to the table itself, or to a table that a
-- trigger writes to, sees rows that come later in the statement.
SELECT (SELECT foreign_keys FROM pragma_foreign_keys) AND EXISTS (
    SELECT 1 FROM pragma_foreign_key_list($1)
    WHERE "table" = $1 COLLATE NOCASE OR EXISTS (
        SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = $1 COLLATE NOCASE
    )
)
