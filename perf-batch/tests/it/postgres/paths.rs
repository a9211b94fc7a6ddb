//! Which way the rows go in.

use perf_batch::{
    BatchError, BulkDelete, BulkInsert, BulkRow, BulkUpdate, Column, OnConflict, OnRowError, Path,
    Table,
};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Connection};

use super::{ANSWERS, Answer, answers, count, pool};

const COUNT: &str = "SELECT count(*) FROM answers";

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "documents")]
struct Document {
    #[bulk(key)]
    id: i64,
    tags: Vec<String>,
    text: String,
}

const DOCUMENTS: &str = "CREATE TABLE documents (id bigint PRIMARY KEY, tags text[], text text)";

fn document(id: i64, bytes: usize) -> Document {
    Document {
        id,
        tags: vec!["a".into(), "b".into()],
        text: "x".repeat(bytes),
    }
}

/// So many that they are copied in wherever they can be.
fn many(user_id: i64) -> Vec<Answer> {
    let mut rows = answers(user_id, 1_000);
    for row in &mut rows {
        row.answer = "x".repeat(1_000);
    }
    rows
}

async fn run(pool: &PgPool, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

/// Makes the pool's one connection one of a role that may do this much with the table.
async fn become_plain(pool: &PgPool, rights: &str) {
    let schema: String = sqlx::query_scalar("SELECT current_schema()")
        .fetch_one(pool)
        .await
        .unwrap();
    let sql = format!(
        r#"CREATE ROLE "plain_{schema}"; GRANT USAGE ON SCHEMA "{schema}" TO "plain_{schema}";
        GRANT {rights} ON ALL TABLES IN SCHEMA "{schema}" TO "plain_{schema}";
        SET ROLE "plain_{schema}""#
    );
    run(pool, &sql).await;
}

fn reason(error: BatchError) -> String {
    match error {
        BatchError::Invalid { reason, .. } => reason,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_way_that_is_insisted_on_is_gone() {
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    for (user_id, path) in [Path::Unnest, Path::Values, Path::Copy]
        .into_iter()
        .enumerate()
    {
        let insert = BulkInsert::<Answer>::new().path(path);
        let rows = answers(user_id as i64, 300);
        let report = insert.execute(&pool, rows).await.unwrap();
        assert_eq!((report.path, report.written), (path, 300));
    }
    assert_eq!(count(&pool, COUNT).await, 900);
    let distinct = "SELECT count(DISTINCT (question_id, answer, points)) FROM answers";
    assert_eq!(count(&pool, distinct).await, 300);
}

#[tokio::test]
async fn a_way_that_cannot_be_gone_is_invalid_with_the_reason() {
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "answers")]
    struct Short {
        user_id: i32,
        question_id: i32,
        answer: String,
    }
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    run(&pool, DOCUMENTS).await;
    let copy = BulkInsert::<Answer>::new().path(Path::Copy);
    let mut conn = pool.acquire().await.unwrap();
    let error = copy.execute(&mut conn, answers(1, 2)).await.unwrap_err();
    assert!(reason(error).contains("pass a pool"));
    drop(conn);
    let ignore = copy.clone().on_conflict(OnConflict::DoNothing);
    let error = ignore.execute(&pool, answers(1, 2)).await.unwrap_err();
    assert!(reason(error).contains("conflicts"));
    let empty = copy.clone().path(Path::Empty);
    let error = empty.execute(&pool, answers(1, 2)).await.unwrap_err();
    assert!(reason(error).contains("no path empty"));
    let arrays = BulkInsert::<Document>::new().path(Path::Unnest);
    let error = arrays
        .execute(&pool, vec![document(1, 1)])
        .await
        .unwrap_err();
    assert!(reason(error).contains("tags"));
    let row = Short {
        user_id: 1,
        question_id: 1,
        answer: "a".into(),
    };
    let short = BulkInsert::<Short>::new();
    let copy = short.clone().path(Path::Copy);
    let error = copy.execute(&pool, vec![row.clone()]).await.unwrap_err();
    let reason = reason(error);
    assert!(
        reason.contains("user_id") && reason.contains("INT4"),
        "{reason}"
    );
    // Left to itself, it converts.
    let rows = (0..1_000).map(|n| Short {
        question_id: n,
        answer: "x".repeat(1_000),
        ..row.clone()
    });
    let report = short.execute(&pool, rows.collect()).await.unwrap();
    assert_eq!((report.path, report.written), (Path::Unnest, 1_000));
}

#[tokio::test]
async fn what_a_copy_may_not_do_is_inserted() {
    for (prepare, rights) in [
        ("", "SELECT, INSERT"),
        ("", "INSERT"),
        (
            "ALTER TABLE answers ENABLE ROW LEVEL SECURITY;
             CREATE POLICY few ON answers USING (true) WITH CHECK (user_id < 3)",
            "SELECT, INSERT",
        ),
        (
            "ALTER TABLE answers RENAME TO behind; CREATE VIEW answers AS SELECT * FROM behind",
            "SELECT, INSERT",
        ),
    ] {
        let Some(pool) = pool(ANSWERS, 1).await else {
            return;
        };
        run(&pool, prepare).await;
        become_plain(&pool, rights).await;
        let may = (prepare, rights) == ("", "SELECT, INSERT");
        let wanted = if may { Path::Copy } else { Path::Unnest };
        let report = BulkInsert::<Answer>::new()
            .execute(&pool, many(1))
            .await
            .unwrap();
        assert_eq!(
            (report.path, report.written),
            (wanted, 1_000),
            "{prepare} {rights}"
        );
        if prepare.contains("SECURITY") {
            let mut rows = many(2);
            rows[417].user_id = 3;
            // Not a row's fault by its code (42501).
            let skip = BulkInsert::<Answer>::new().on_row_error(OnRowError::Skip);
            let error = skip.execute(&pool, rows).await.unwrap_err();
            assert_eq!(error.code().as_deref(), Some("42501"));
        }
    }
}

#[tokio::test]
async fn a_column_of_another_type_by_now_is_noticed() {
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    let insert = BulkInsert::<Answer>::new();
    let report = insert.execute(&pool, many(1)).await.unwrap();
    assert_eq!(report.path, Path::Copy);
    run(&pool, "ALTER TABLE answers ALTER points TYPE real").await;
    for user_id in [2, 3] {
        let report = insert.execute(&pool, many(user_id)).await.unwrap();
        assert_eq!((report.path, report.written), (Path::Unnest, 1_000));
    }
    run(&pool, "ALTER TABLE answers ALTER points TYPE integer").await;
    insert.execute(&pool, many(4)).await.unwrap();
    let sum =
        "SELECT count(DISTINCT sum) FROM (SELECT sum(points) FROM answers GROUP BY user_id) s";
    assert_eq!(count(&pool, sum).await, 1);
}

#[tokio::test]
async fn a_copy_that_is_refused_names_its_rows_and_says_how_the_others_went_in() {
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    let mut rows = many(1);
    rows[417].answer = "forbidden".into();
    rows[900].question_id = 3;
    let skip = BulkInsert::<Answer>::new().on_row_error(OnRowError::Skip);
    let report = skip.execute(&pool, rows).await.unwrap();
    let failed: Vec<_> = report.failed.iter().map(|failure| failure.index).collect();
    assert_eq!((report.written, failed), (998, vec![417, 900]));
    assert_eq!(report.path, Path::Unnest);
}

#[tokio::test]
async fn statements_of_values_stay_below_16_mib() {
    let Some(pool) = pool(DOCUMENTS, 1).await else {
        return;
    };
    let rows = (0..48).map(|id| document(id, 1 << 20)).collect();
    let report = BulkInsert::<Document>::new()
        .path(Path::Values)
        .execute(&pool, rows)
        .await
        .unwrap();
    assert_eq!((report.path, report.written), (Path::Values, 48));
    // BEGIN, three times 16 rows, COMMIT.
    assert_eq!(report.statements, 5);
    // One row larger than that goes alone.
    let rows = (100..103).map(|id| document(id, 20 << 20)).collect();
    let report = BulkInsert::<Document>::new()
        .path(Path::Values)
        .execute(&pool, rows)
        .await
        .unwrap();
    assert_eq!((report.written, report.statements), (3, 5));
    let whole = "SELECT count(*) FROM documents WHERE length(text) = CASE WHEN id < 100 THEN 1 << 20 ELSE 20 << 20 END";
    assert_eq!(count(&pool, whole).await, 51);
}

#[tokio::test]
async fn the_search_stops_at_the_limit() {
    let schema = "CREATE SEQUENCE attempts;
        CREATE TABLE answers (
            user_id bigint, question_id bigint, answer text, points integer,
            CONSTRAINT tried CHECK (nextval('attempts') > 0 AND answer <> 'forbidden')
        )";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let mut rows = answers(1, 1_000);
    for row in &mut rows {
        row.answer = "forbidden".into();
    }
    for path in [Path::Unnest, Path::Values] {
        run(&pool, "SELECT setval('attempts', 1)").await;
        let skip = BulkInsert::<Answer>::new()
            .on_row_error(OnRowError::Skip)
            .path(path);
        let error = skip
            .skip_limit(3)
            .execute(&pool, rows.clone())
            .await
            .unwrap_err();
        let BatchError::SkipLimit { limit: 3, failed } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(failed.len(), 4);
        let attempts = count(&pool, "SELECT nextval('attempts')").await;
        assert!(attempts < 40, "{attempts} attempts by {path}");
    }
}

#[tokio::test]
async fn many_pairs_that_only_the_database_takes_for_equal_are_no_bad_rows() {
    #[derive(Debug, Clone, PartialEq, BulkRow)]
    #[bulk(table = "prices")]
    struct Price {
        #[bulk(key, pg_type = "numeric")]
        price: String,
        label: i64,
    }
    let Some(pool) = pool(
        "CREATE TABLE prices (price numeric PRIMARY KEY, label bigint)",
        1,
    )
    .await
    else {
        return;
    };
    let rows = (0..2_000).map(|n| Price {
        price: if n % 2 == 0 {
            format!("{n}")
        } else {
            format!("{}.0", n - 1)
        },
        label: n,
    });
    let report = BulkInsert::<Price>::new()
        .on_conflict(OnConflict::Update)
        .on_row_error(OnRowError::Skip)
        .execute(&pool, rows.collect())
        .await
        .unwrap();
    assert_eq!(report.failed, []);
    assert_eq!(report.written, 2_000);
    let last = "SELECT count(*) FROM prices WHERE label = price + 1";
    assert_eq!(count(&pool, last).await, 1_000);
}

#[tokio::test]
async fn a_connection_keeps_few_statements_whatever_the_sizes() {
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    run(&pool, DOCUMENTS).await;
    let keys = Table::new("answers")
        .column(Column::new("user_id").key())
        .column(Column::new("question_id").key())
        .column(Column::new("answer"))
        .column(Column::new("points"));
    let upsert = BulkInsert::<Answer>::into_table(keys).on_conflict(OnConflict::Update);
    let documents = BulkInsert::<Document>::new().on_conflict(OnConflict::Update);
    let update = BulkUpdate::<Document>::by_key();
    let delete = BulkDelete::<Document>::by_key();
    let mut size = 17_i64;
    for _ in 0..50 {
        size = (size * 31 + 7) % 701;
        upsert.execute(&pool, answers(1, size)).await.unwrap();
        let rows: Vec<_> = (0..size).map(|id| document(id, 1)).collect();
        documents.execute(&pool, rows.clone()).await.unwrap();
        update.execute(&pool, rows).await.unwrap();
        delete.execute(&pool, (0..size).collect()).await.unwrap();
    }
    let conn = pool.acquire().await.unwrap();
    let cached = conn.cached_statements_size();
    // Nine sizes of values for an insert and an update each, a text for each other, COPY's questions.
    assert!(cached <= 2 * 9 + 6, "{cached} statements");
}

#[tokio::test]
async fn a_copy_that_is_cancelled_is_not_tried_by_another_way() {
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "slow")]
    struct Slow {
        n: i64,
        text: String,
    }
    let schema = "CREATE TABLE slow (n bigint, text text);
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
        CREATE TRIGGER wait BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION wait()";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    sqlx::raw_sql("SET statement_timeout = '2s'")
        .execute(&pool)
        .await
        .unwrap();
    let text = "x".repeat(1_000);
    let rows = (0..1_000).map(|n| Slow {
        n,
        text: text.clone(),
    });
    let began = std::time::Instant::now();
    let insert = BulkInsert::<Slow>::new();
    let error = insert.execute(&pool, rows.collect()).await.unwrap_err();
    assert_eq!(error.code().as_deref(), Some("57014"), "{error:?}");
    // Another way would take as long again.
    assert!(began.elapsed() < std::time::Duration::from_secs(4));
}
