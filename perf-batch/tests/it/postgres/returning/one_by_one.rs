//! Tables whose rows can only be told apart one by one.

use perf_batch::{BulkInsert, OnRowError};
use sqlx::postgres::PgPool;

use super::{Note, note, pool, saved, shuffled};

/// Whether each row has its own id; returns how many requests it took.
async fn right(pool: &PgPool, n: i64) -> u64 {
    let rows = shuffled(n);
    let insert = BulkInsert::<Note>::new().returning("id");
    let (report, ids) = insert
        .execute::<i64, _, _>(pool, rows.clone())
        .await
        .unwrap();
    assert_eq!(report.written as usize, ids.iter().flatten().count());
    assert_eq!(ids, saved(pool, &rows).await);
    report.statements
}

#[tokio::test]
async fn a_trigger_that_replaces_the_id() {
    let schema = "CREATE TABLE notes (id bigserial PRIMARY KEY, label bigint, text text);
        CREATE FUNCTION turn() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.id := 100000 - NEW.id; RETURN NEW; END $$;
        CREATE TRIGGER turn BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION turn()";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    assert!(right(&pool, 1).await < 10);
    assert!(right(&pool, 5_000).await < 20);
}

#[tokio::test]
async fn a_trigger_of_a_partition_that_changes_the_id() {
    let schema =
        "CREATE TABLE notes (id bigserial, label bigint, text text) PARTITION BY LIST (label);
        CREATE TABLE every PARTITION OF notes DEFAULT;
        CREATE FUNCTION turn() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.id := 301 - NEW.id; RETURN NEW; END $$;
        CREATE TRIGGER turn BEFORE INSERT ON every FOR EACH ROW EXECUTE FUNCTION turn()";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    right(&pool, 300).await;
}

#[tokio::test]
async fn a_trigger_that_leaves_rows_out() {
    let schema = "CREATE TABLE notes (id bigserial PRIMARY KEY, label bigint, text text);
        CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RETURN CASE WHEN NEW.label % 2 = 1 THEN NEW END; END $$;
        CREATE TRIGGER odd BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION odd()";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    right(&pool, 1_000).await;
}

#[tokio::test]
async fn a_default_that_is_the_same_for_all() {
    let schema = "CREATE TABLE notes (id bigint DEFAULT 7, label bigint, text text)";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    right(&pool, 5_000).await;
}

#[tokio::test]
async fn a_column_without_a_default() {
    let schema = "CREATE TABLE notes (
        id bigint GENERATED ALWAYS AS (label * 2) STORED, label bigint, text text
    )";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    right(&pool, 1_000).await;
}

#[tokio::test]
async fn a_type_without_equality() {
    let schema = "CREATE TABLE notes (
        id point DEFAULT point(random(), random()), label bigint, text text
    )";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let insert = BulkInsert::<Note>::new().returning("id");
    let rows = shuffled(100);
    let ids = insert
        .fetch_ids::<sqlx::postgres::types::PgPoint, _, _>(&pool, rows.clone())
        .await
        .unwrap();
    for (row, id) in rows.iter().zip(ids) {
        let label: i64 = sqlx::query_scalar("SELECT label FROM notes WHERE id ~= $1")
            .bind(id.unwrap())
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(label, row.label);
    }
}

#[tokio::test]
async fn a_view_with_a_trigger_of_its_own() {
    let schema = "CREATE TABLE base (id bigserial PRIMARY KEY, label bigint, text text);
        CREATE VIEW notes AS SELECT * FROM base;
        CREATE FUNCTION into_base() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO base (label, text) VALUES (NEW.label, NEW.text) RETURNING id INTO NEW.id;
            RETURN NEW;
        END $$;
        CREATE TRIGGER into_base INSTEAD OF INSERT ON notes
        FOR EACH ROW EXECUTE FUNCTION into_base()";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    right(&pool, 500).await;
}

#[tokio::test]
async fn no_rights_to_the_sequence_nor_to_temporary_functions() {
    let schema = "CREATE TABLE notes (
            id bigint GENERATED ALWAYS AS IDENTITY, label bigint,
            text text CHECK (text <> 'bad')
        )";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let role = testkit::unique("clerk");
    let grants = format!(
        "CREATE ROLE {role};
        DO $$ BEGIN
            EXECUTE format('REVOKE TEMP ON DATABASE %I FROM PUBLIC', current_database());
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO {role}', current_schema());
        END $$;
        GRANT SELECT, INSERT (label, text) ON notes TO {role};
        SET ROLE {role}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(grants))
        .execute(&pool)
        .await
        .unwrap();
    right(&pool, 200).await;
    let mut rows: Vec<Note> = (1_000_000..1_000_050).map(note).collect();
    rows[33].text = "bad".into();
    let insert = BulkInsert::<Note>::new().on_row_error(OnRowError::Skip);
    let (report, ids) = insert
        .returning("id")
        .execute::<i64, _, _>(&pool, rows.clone())
        .await
        .unwrap();
    assert_eq!((report.written, report.failed[0].index), (49, 33));
    assert_eq!(ids, saved(&pool, &rows).await);
}
