CREATE OR REPLACE FUNCTION pg_temp.{name}(
    {parameters}, perf_singly boolean, perf_suspect boolean, perf_room bigint
)
RETURNS TABLE (
    perf_at bigint, perf_affected bigint, perf_code text, perf_constraint text, perf_message text,
    perf_value {value}
)
LANGUAGE plpgsql AS ${tag}$
#variable_conflict use_column
DECLARE
    perf_refused bigint := 0;
    perf_total bigint := 0;
    perf_row record;
BEGIN
    FOR perf_row IN
        SELECT * FROM unnest({arrays}) WITH ORDINALITY AS given ({columns}, perf_place)
    LOOP
        perf_at := perf_row.perf_place;
        perf_code := NULL;
        BEGIN
            {before}(VALUES ({row})){after} INTO perf_value;
            GET DIAGNOSTICS perf_affected = ROW_COUNT;
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            IF NOT {row_fault} THEN
                RAISE;
            END IF;
            GET STACKED DIAGNOSTICS
                perf_constraint = CONSTRAINT_NAME, perf_message = MESSAGE_TEXT;
            perf_affected := 0;
            perf_code := SQLSTATE;
            perf_value := NULL;
            perf_refused := perf_refused + 1;
        END;
        perf_total := perf_total + perf_affected;
        IF perf_affected > 0 OR perf_code IS NOT NULL THEN
            RETURN NEXT;
        END IF;
        IF perf_refused > perf_room THEN
            RETURN;
        END IF;
    END LOOP;
    perf_at := 0;
    perf_affected := perf_total;
    perf_value := NULL;
    RETURN NEXT;
END
${tag}$
