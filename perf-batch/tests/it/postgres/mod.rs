mod batcher;
mod fallback;
mod faults;
mod lost;
mod paths;
mod returning;
mod types;
mod updates;

use perf_batch::{BatchError, BulkInsert, BulkRow, OnConflict, OnRowError, Path};
use sqlx::postgres::{PgPool, PgPoolOptions};

/// A pool on a schema of its own; `None` where there is no server, which testkit says.
pub(crate) async fn pool(schema: &'static str, connections: u32) -> Option<PgPool> {
    let server = testkit::Postgres::shared().await?;
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .connect(&server.schema_url().await)
        .await
        .unwrap();
    sqlx::raw_sql(schema).execute(&pool).await.unwrap();
    Some(pool)
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

#[derive(Debug, Clone, PartialEq, BulkRow)]
#[bulk(table = "answers")]
struct Answer {
    #[bulk(key)]
    user_id: i64,
    #[bulk(key)]
    question_id: i64,
    answer: String,
    points: Option<i32>,
}

const ANSWERS: &str = "CREATE TABLE answers (
    user_id bigint NOT NULL,
    question_id bigint NOT NULL,
    answer text NOT NULL CONSTRAINT allowed CHECK (answer <> 'forbidden'),
    points integer,
    PRIMARY KEY (user_id, question_id)
)";

fn answers(user_id: i64, n: i64) -> Vec<Answer> {
    (0..n)
        .map(|question_id| Answer {
            user_id,
            question_id,
            answer: format!("answer {question_id}"),
            points: (question_id % 3 != 0).then_some(question_id as i32),
        })
        .collect()
}

#[tokio::test]
async fn every_row_is_saved_by_unnest_and_a_few_by_values() {
    let Some(pool) = pool(ANSWERS, 2).await else {
        return;
    };
    for n in [1, 2, 1000, 4097] {
        let rows = answers(n, n);
        let report = BulkInsert::<Answer>::new()
            .execute(&pool, rows.clone())
            .await
            .unwrap();
        assert_eq!(report.written, n as u64);
        let few = if n < 3 { Path::Values } else { Path::Unnest };
        assert_eq!(report.path, few);
        assert!(report.statements <= 4, "{} statements", report.statements);
        let saved: Vec<(i64, i64, String, Option<i32>)> =
            sqlx::query_as("SELECT * FROM answers WHERE user_id = $1 ORDER BY question_id")
                .bind(n)
                .fetch_all(&pool)
                .await
                .unwrap();
        let given: Vec<_> = rows
            .into_iter()
            .map(|a| (a.user_id, a.question_id, a.answer, a.points))
            .collect();
        assert_eq!(saved, given);
    }
}

#[tokio::test]
async fn abort_writes_nothing_and_skip_names_the_bad_rows() {
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    let mut rows = answers(1, 1000);
    rows[7].answer = "forbidden".into();
    rows[500].question_id = 3;
    let insert = BulkInsert::<Answer>::new();
    let error = insert.execute(&pool, rows.clone()).await.unwrap_err();
    let BatchError::Row {
        index: 7,
        constraint: Some(constraint),
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(constraint, "allowed");
    assert_eq!(error.code().as_deref(), Some("23514"));
    assert_eq!(count(&pool, "SELECT count(*) FROM answers").await, 0);

    let report = insert
        .on_row_error(OnRowError::Skip)
        .execute(&pool, rows)
        .await
        .unwrap();
    assert_eq!(report.written, 998);
    let failed: Vec<_> = report
        .failed
        .iter()
        .map(|f| (f.index, f.code.as_deref(), f.constraint.as_deref()))
        .collect();
    assert_eq!(
        failed,
        [
            (7, Some("23514"), Some("allowed")),
            (500, Some("23505"), Some("answers_pkey"))
        ]
    );
    assert_eq!(count(&pool, "SELECT count(*) FROM answers").await, 998);
}

#[tokio::test]
async fn deferred_constraints_name_their_rows_too() {
    let schema = "CREATE TABLE parents (id bigint PRIMARY KEY);
        INSERT INTO parents VALUES (1);
        CREATE TABLE children (parent bigint REFERENCES parents DEFERRABLE INITIALLY DEFERRED)";
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "children")]
    struct Child {
        parent: i64,
    }
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let mut rows = vec![Child { parent: 1 }; 100];
    rows[42].parent = 2;
    let insert = BulkInsert::<Child>::new();
    let error = insert.execute(&pool, rows.clone()).await.unwrap_err();
    assert!(
        matches!(error, BatchError::Row { index: 42, .. }),
        "{error:?}"
    );
    let report = insert
        .on_row_error(OnRowError::Skip)
        .execute(&pool, rows)
        .await
        .unwrap();
    assert_eq!((report.written, report.failed[0].index), (99, 42));
}

#[tokio::test]
async fn a_batch_inside_a_transaction_is_all_or_nothing_in_it() {
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    let insert = BulkInsert::<Answer>::new();
    let mut tx = pool.begin().await.unwrap();
    insert.execute(&mut tx, answers(1, 300)).await.unwrap();
    let mut rows = answers(2, 300);
    rows[299].answer = "forbidden".into();
    let error = insert.execute(&mut *tx, rows.clone()).await.unwrap_err();
    assert!(matches!(error, BatchError::Row { index: 299, .. }));
    let skip = insert.clone().on_row_error(OnRowError::Skip);
    let report = skip.execute(&mut tx, rows).await.unwrap();
    assert_eq!((report.written, report.failed.len()), (299, 1));
    tx.commit().await.unwrap();
    assert_eq!(count(&pool, "SELECT count(*) FROM answers").await, 599);

    let mut tx = pool.begin().await.unwrap();
    let broken = sqlx::query("SELECT 1 / 0").execute(&mut *tx).await;
    assert!(broken.is_err());
    let error = insert.execute(&mut tx, answers(3, 1)).await.unwrap_err();
    assert_eq!(error.code().as_deref(), Some("25P02"));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn keys_that_only_the_database_takes_for_equal_go_in_one_after_the_other() {
    let schema = "CREATE TABLE prices (price numeric PRIMARY KEY, label text)";
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "prices")]
    struct Price {
        #[bulk(key, pg_type = "numeric")]
        price: String,
        label: String,
    }
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let price = |price: &str, label: &str| Price {
        price: price.into(),
        label: label.into(),
    };
    let rows = vec![price("1", "a"), price("2", "b"), price("1.0", "c")];
    for on_row_error in [OnRowError::Abort, OnRowError::Skip] {
        let report = BulkInsert::<Price>::new()
            .on_conflict(OnConflict::Update)
            .on_row_error(on_row_error)
            .execute(&pool, rows.clone())
            .await
            .unwrap();
        assert_eq!((report.written, report.failed.len()), (3, 0));
        let label: String = sqlx::query_scalar("SELECT label FROM prices WHERE price = 1")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(label, "c");
    }
}

#[tokio::test]
async fn a_trigger_refuses_a_row_by_whatever_code() {
    let schema = "CREATE TABLE numbers (n bigint);
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE found bigint;
        BEGIN
            IF NEW.n = 30 THEN RAISE EXCEPTION 'no' USING ERRCODE = 'QZ001'; END IF;
            IF NEW.n = 60 THEN RAISE SQLSTATE '45000'; END IF;
            IF NEW.n = 90 THEN SELECT n INTO STRICT found FROM numbers WHERE false; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION refuse()";
    #[derive(Debug, BulkRow)]
    #[bulk(table = "numbers")]
    struct Number {
        n: i64,
    }
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let report = BulkInsert::<Number>::new()
        .on_row_error(OnRowError::Skip)
        .execute(&pool, (0..100).map(|n| Number { n }).collect())
        .await
        .unwrap();
    let failed: Vec<_> = report
        .failed
        .iter()
        .map(|f| (f.row.n, f.code.as_deref().unwrap()))
        .collect();
    assert_eq!(failed, [(30, "QZ001"), (60, "45000"), (90, "P0002")]);
}
