-- $1: the table; $2: its key's columns in lower case, a NUL around each; $3: whether rows that are
-- there may change; $4: whether that is all that happens to them, by an UPDATE, which goes through
-- them in an order of its own.
-- 2: rows must go in one by one; 1: in the order of the input.
WITH triggers AS (
    SELECT tbl_name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = $1 COLLATE NOCASE
    UNION ALL
    SELECT tbl_name FROM sqlite_temp_schema WHERE type = 'trigger' AND tbl_name = $1 COLLATE NOCASE
)
SELECT CASE
    -- What is behind a view is not looked at.
    WHEN EXISTS (
        SELECT 1 FROM sqlite_schema WHERE type = 'view' AND name = $1 COLLATE NOCASE
    ) THEN 2
    -- Foreign keys are checked when the statement ends: one to the table itself, one to what a
    -- trigger writes to, and one of another table to a column that changes.
    WHEN (SELECT foreign_keys FROM pragma_foreign_keys) AND (
        EXISTS (
            SELECT 1 FROM pragma_foreign_key_list($1)
            WHERE "table" = $1 COLLATE NOCASE OR EXISTS (SELECT 1 FROM triggers)
        )
        OR $3 AND EXISTS (
            SELECT 1 FROM sqlite_schema AS other, pragma_foreign_key_list(other.name) AS key
            WHERE other.type = 'table' AND key."table" = $1 COLLATE NOCASE
                AND NOT instr($2, CAST(char(0) || lower(key."to") || char(0) AS BLOB))
        )
    ) THEN 2
    WHEN $4 AND (
        EXISTS (SELECT 1 FROM triggers)
        OR EXISTS (
            SELECT 1 FROM pragma_index_list($1) AS list, pragma_index_info(list.name) AS part
            WHERE list."unique" AND (
                part.name IS NULL
                OR NOT instr($2, CAST(char(0) || lower(part.name) || char(0) AS BLOB))
            )
        )
    ) THEN 2
    ELSE 1
END
