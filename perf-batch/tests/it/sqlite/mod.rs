mod faults;
mod mapping;
mod returning;

use perf_batch::{BatchError, BatchReport, BulkInsert, BulkRow, OnConflict, OnRowError, Path};

use crate::support::lite::Lite;

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
    user_id INTEGER NOT NULL,
    question_id INTEGER NOT NULL,
    answer TEXT NOT NULL CHECK (answer <> 'forbidden'),
    points INTEGER,
    PRIMARY KEY (user_id, question_id)
)";

const COUNT: &str = "SELECT count(*) FROM answers";

fn answer(user_id: i64, question_id: i64) -> Answer {
    Answer {
        user_id,
        question_id,
        answer: format!("answer {question_id}"),
        points: (question_id % 3 != 0).then_some(question_id as i32),
    }
}

fn answers(user_id: i64, n: i64) -> Vec<Answer> {
    (0..n).map(|question| answer(user_id, question)).collect()
}

fn adds_up<R>(report: &BatchReport<R>) -> bool {
    let failed = report.failed.len() as u64;
    report.written + report.ignored + report.deduplicated + failed == report.given
}

#[tokio::test]
async fn every_row_is_saved_with_its_values() {
    let lite = Lite::new(ANSWERS).await;
    for n in [1, 2, 3, 255, 256, 257, 1000, 2049] {
        let rows = answers(n, n);
        let report = BulkInsert::<Answer>::new()
            .execute(&lite.pool, rows.clone())
            .await
            .unwrap();
        assert_eq!((report.given, report.written), (n as u64, n as u64));
        assert_eq!(report.path, Path::Values);
        assert!(adds_up(&report));
        let saved: Vec<(i64, i64, String, Option<i32>)> =
            sqlx::query_as("SELECT * FROM answers WHERE user_id = ? ORDER BY question_id")
                .bind(n)
                .fetch_all(&lite.pool)
                .await
                .unwrap();
        let saved: Vec<Answer> = saved
            .into_iter()
            .map(|(user_id, question_id, answer, points)| Answer {
                user_id,
                question_id,
                answer,
                points,
            })
            .collect();
        assert_eq!(saved, rows);
    }
}

#[tokio::test]
async fn a_batch_is_one_transaction_and_few_statements() {
    let lite = Lite::new(ANSWERS).await;
    let report = BulkInsert::<Answer>::new()
        .execute(&lite.pool, answers(1, 1000))
        .await
        .unwrap();
    assert!(report.statements <= 12, "{} statements", report.statements);
    assert!(report.duration > std::time::Duration::ZERO);
}

#[tokio::test]
async fn an_empty_batch_does_not_touch_the_database() {
    let lite = Lite::new(ANSWERS).await;
    lite.pool.close().await;
    let report = BulkInsert::<Answer>::new()
        .execute(&lite.pool, Vec::new())
        .await
        .unwrap();
    assert_eq!((report.given, report.statements), (0, 0));
    assert_eq!(report.path, Path::Empty);
    let closed = BulkInsert::<Answer>::new()
        .execute(&lite.pool, answers(1, 1))
        .await;
    assert!(matches!(closed, Err(BatchError::Acquire { rows: 1, .. })));
}

#[tokio::test]
async fn abort_writes_nothing_and_names_the_row() {
    let lite = Lite::new(ANSWERS).await;
    for bad in [0, 1, 256, 700, 999] {
        let mut rows = answers(1, 1000);
        rows[bad].answer = "forbidden".into();
        let error = BulkInsert::<Answer>::new()
            .execute(&lite.pool, rows)
            .await
            .unwrap_err();
        let BatchError::Row {
            index, constraint, ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(*index, bad);
        assert_eq!(constraint.as_deref(), Some("answer <> 'forbidden'"));
        assert_eq!(error.code().as_deref(), Some("275"));
        assert!(!error.is_retryable());
        assert_eq!(lite.count(COUNT).await, 0);
    }
}

#[tokio::test]
async fn skip_saves_the_good_rows_and_names_the_bad_ones() {
    let lite = Lite::new(ANSWERS).await;
    let mut rows = answers(1, 1000);
    rows[7].answer = "forbidden".into();
    rows[500] = answer(1, 3);
    rows[999].answer = "forbidden".into();
    let report = BulkInsert::<Answer>::new()
        .on_row_error(OnRowError::Skip)
        .execute(&lite.pool, rows.clone())
        .await
        .unwrap();
    assert!(adds_up(&report));
    assert_eq!(report.written, 997);
    let failed: Vec<_> = report
        .failed
        .iter()
        .map(|f| (f.index, f.code.as_deref().unwrap()))
        .collect();
    assert_eq!(failed, [(7, "275"), (500, "1555"), (999, "275")]);
    let twice = &report.failed[1];
    assert_eq!(twice.row, rows[500]);
    assert_eq!(
        twice.constraint.as_deref(),
        Some("answers.user_id, answers.question_id")
    );
    assert!(twice.message.contains("UNIQUE"), "{}", twice.message);
    assert_eq!(lite.count(COUNT).await, 997);
}

#[tokio::test]
async fn do_nothing_leaves_the_row_that_is_there() {
    let lite = Lite::new(ANSWERS).await;
    let insert = BulkInsert::<Answer>::new().on_conflict(OnConflict::DoNothing);
    insert.execute(&lite.pool, answers(1, 10)).await.unwrap();
    let mut rows = answers(1, 15);
    rows.iter_mut().for_each(|row| row.answer = "new".into());
    rows.push(rows[14].clone());
    let report = insert.execute(&lite.pool, rows).await.unwrap();
    assert_eq!((report.written, report.ignored), (5, 11));
    assert!(adds_up(&report));
    assert_eq!(
        lite.count("SELECT count(*) FROM answers WHERE answer = 'new'")
            .await,
        5
    );
}

#[tokio::test]
async fn update_replaces_and_the_last_duplicate_counts() {
    let lite = Lite::new(ANSWERS).await;
    let insert = BulkInsert::<Answer>::new().on_conflict(OnConflict::Update);
    insert.execute(&lite.pool, answers(1, 10)).await.unwrap();
    let mut rows = answers(1, 10);
    rows.reverse();
    rows.push(Answer {
        answer: "last".into(),
        ..answer(1, 4)
    });
    let report = insert.execute(&lite.pool, rows).await.unwrap();
    assert_eq!((report.written, report.deduplicated), (10, 1));
    assert!(adds_up(&report));
    assert_eq!(
        lite.count("SELECT question_id FROM answers WHERE answer = 'last'")
            .await,
        4
    );
}

#[tokio::test]
async fn rows_with_null_in_the_key_are_never_duplicates() {
    // The derive sees the name of the type only.
    type Visitor = Option<i64>;
    #[derive(Debug, BulkRow)]
    #[bulk(table = "visits")]
    struct Visit {
        #[bulk(key)]
        visitor: Visitor,
        page: String,
    }
    let lite = Lite::new("CREATE TABLE visits (visitor INTEGER UNIQUE, page TEXT)").await;
    let visit = |visitor, page: &str| Visit {
        visitor,
        page: page.into(),
    };
    let rows = vec![
        visit(None, "a"),
        visit(Some(1), "b"),
        visit(None, "c"),
        visit(Some(1), "d"),
    ];
    let report = BulkInsert::<Visit>::new()
        .on_conflict(OnConflict::Update)
        .execute(&lite.pool, rows)
        .await
        .unwrap();
    assert_eq!((report.written, report.deduplicated), (3, 1));
    assert_eq!(lite.count("SELECT count(*) FROM visits").await, 3);
    assert_eq!(
        lite.count("SELECT count(*) FROM visits WHERE page = 'd'")
            .await,
        1
    );
}

#[tokio::test]
async fn a_batch_inside_a_transaction_is_all_or_nothing_in_it() {
    let lite = Lite::new(ANSWERS).await;
    let insert = BulkInsert::<Answer>::new();
    let mut tx = lite.pool.begin().await.unwrap();
    insert.execute(&mut tx, answers(1, 300)).await.unwrap();
    let mut rows = answers(2, 300);
    rows[299].answer = "forbidden".into();
    let error = insert.execute(&mut *tx, rows.clone()).await.unwrap_err();
    assert!(matches!(error, BatchError::Row { index: 299, .. }));
    let report = insert
        .clone()
        .on_row_error(OnRowError::Skip)
        .execute(&mut tx, rows)
        .await
        .unwrap();
    assert_eq!((report.written, report.failed.len()), (299, 1));
    tx.commit().await.unwrap();
    assert_eq!(lite.count(COUNT).await, 599);

    let mut tx = lite.pool.begin().await.unwrap();
    insert.execute(&mut tx, answers(3, 300)).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(lite.count(COUNT).await, 599);
}
