CREATE OR REPLACE FUNCTION pg_temp.{name}(
    {parameters}, perf_singly boolean, perf_suspect boolean, perf_room bigint
)
RETURNS TABLE (
    perf_at bigint, perf_affected bigint, perf_code text, perf_constraint text, perf_message text
)
LANGUAGE plpgsql AS ${tag}$
#variable_conflict use_column
DECLARE
    perf_rows CONSTANT bigint := cardinality(perf_1);
    -- The first row that is not decided yet.
    perf_next bigint := 1;
    -- A bad row is among perf_next and this, where this is not less.
    perf_bad_to bigint := CASE WHEN perf_suspect THEN perf_rows ELSE 0 END;
    -- How many rows to try where nothing is known.
    perf_size bigint := perf_rows;
    perf_take bigint;
    perf_refused bigint := 0;
    perf_total bigint := 0;
    perf_row record;
BEGIN
    WHILE NOT perf_singly AND perf_next <= perf_rows LOOP
        IF perf_bad_to >= perf_next THEN
            perf_take := (perf_bad_to - perf_next + 2) / 2;
        ELSE
            perf_take := least(perf_size, perf_rows - perf_next + 1);
        END IF;
        BEGIN
            {before}unnest({slices}){after};
            GET DIAGNOSTICS perf_affected = ROW_COUNT;
            perf_total := perf_total + perf_affected;
            perf_next := perf_next + perf_take;
            perf_size := least(perf_size * 2, perf_rows);
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            IF NOT {row_fault} THEN
                RAISE;
            END IF;
            IF perf_take > 1 THEN
                perf_bad_to := perf_next + perf_take - 1;
            ELSE
                GET STACKED DIAGNOSTICS
                    perf_constraint = CONSTRAINT_NAME, perf_message = MESSAGE_TEXT;
                perf_at := perf_next;
                perf_affected := 0;
                perf_code := SQLSTATE;
                RETURN NEXT;
                perf_refused := perf_refused + 1;
                IF perf_refused > perf_room THEN
                    RETURN;
                END IF;
                perf_next := perf_next + 1;
                perf_bad_to := 0;
                -- As far as the bad rows were apart until now; where they are close to each
                -- other, looking for them costs more than going through the rows.
                perf_size := greatest(perf_next / perf_refused, 1);
                perf_singly := perf_refused > 3 AND perf_size < 10;
            END IF;
        END;
    END LOOP;
    FOR perf_row IN
        SELECT * FROM unnest({arrays}) WITH ORDINALITY AS given ({columns}, perf_place)
        WHERE perf_place >= perf_next
    LOOP
        BEGIN
            {before}(VALUES ({row})){after};
            GET DIAGNOSTICS perf_affected = ROW_COUNT;
            perf_total := perf_total + perf_affected;
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            IF NOT {row_fault} THEN
                RAISE;
            END IF;
            GET STACKED DIAGNOSTICS
                perf_constraint = CONSTRAINT_NAME, perf_message = MESSAGE_TEXT;
            perf_at := perf_row.perf_place;
            perf_affected := 0;
            perf_code := SQLSTATE;
            RETURN NEXT;
            perf_refused := perf_refused + 1;
            IF perf_refused > perf_room THEN
                RETURN;
            END IF;
        END;
    END LOOP;
    perf_at := 0;
    perf_affected := perf_total;
    RETURN NEXT;
END
${tag}$
