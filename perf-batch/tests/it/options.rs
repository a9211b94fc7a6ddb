//! What the options promise, on both databases.

use std::sync::{Arc, Mutex};

use perf_batch::{
    BatchError, BatchReport, BulkDelete, BulkInsert, BulkRow, BulkUpdate, Column, Duplicates,
    OnConflict, OnRowError, Table, TxScope,
};
use sqlx::ConnectOptions;

#[derive(Debug, Clone, PartialEq, BulkRow)]
#[bulk(table = "answers")]
struct Answer {
    #[bulk(key)]
    user_id: Option<i64>,
    #[bulk(key)]
    question_id: i64,
    answer: String,
    points: i64,
}

const ANSWERS: &str = "CREATE TABLE answers (
    user_id BIGINT, question_id BIGINT NOT NULL,
    answer TEXT NOT NULL CHECK (answer <> 'forbidden'), points BIGINT NOT NULL,
    UNIQUE (user_id, question_id)
)";

fn answer(question_id: i64, answer: &str) -> Answer {
    Answer {
        user_id: Some(1),
        question_id,
        answer: answer.into(),
        points: 1,
    }
}

fn answers(n: i64) -> Vec<Answer> {
    (0..n).map(|n| answer(n, "a")).collect()
}

fn counts<R>(report: &BatchReport<R>) -> [u64; 4] {
    let failed = report.failed.len() as u64;
    let counts = [report.written, report.ignored, report.deduplicated, failed];
    assert_eq!(counts.iter().sum::<u64>(), report.given);
    counts
}

fn indices<R>(report: &BatchReport<R>) -> Vec<usize> {
    report.failed.iter().map(|failure| failure.index).collect()
}

/// Each test on a table of its own on each database.
macro_rules! on_both {
    ($(async fn $name:ident($pool:ident) $body:block)*) => {
        mod sqlite {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let lite = crate::support::lite::Lite::new(ANSWERS).await;
                    let $pool = &lite.pool;
                    $body
                }
            )*
        }

        mod postgres {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let Some(pool) = crate::postgres::pool(ANSWERS, 2).await else {
                        return;
                    };
                    let $pool = &pool;
                    $body
                }
            )*
        }
    };
}

/// The answers by question, as text.
macro_rules! saved {
    ($pool:expr) => {{
        let saved: Vec<(i64, String, i64)> =
            sqlx::query_as("SELECT question_id, answer, points FROM answers ORDER BY 1, 2")
                .fetch_all($pool)
                .await
                .unwrap();
        saved
    }};
}

on_both! {
    async fn of_rows_with_one_key_the_first_or_the_last_counts(pool) {
        let rows = vec![answer(1, "a"), answer(2, "b"), answer(1, "c"), answer(1, "d")];
        for (keep, left) in [(Duplicates::KeepFirst, "a"), (Duplicates::KeepLast, "d")] {
            for conflict in [OnConflict::Error, OnConflict::DoNothing, OnConflict::Update] {
                sqlx::raw_sql("DELETE FROM answers").execute(pool).await.unwrap();
                let insert = BulkInsert::<Answer>::new().on_conflict(conflict).duplicates(keep);
                let report = insert.execute(pool, rows.clone()).await.unwrap();
                assert_eq!(counts(&report), [2, 0, 2, 0]);
                let wanted = vec![(1, left.to_owned(), 1), (2, "b".to_owned(), 1)];
                assert_eq!(saved!(pool), wanted);
            }
        }
    }

    async fn without_a_word_duplicates_are_the_databases_affair_unless_rows_are_updated(pool) {
        let rows = vec![answer(1, "a"), answer(1, "b")];
        let skip = BulkInsert::<Answer>::new().on_row_error(OnRowError::Skip);
        let report = skip.execute(pool, rows.clone()).await.unwrap();
        assert_eq!((counts(&report), indices(&report)), ([1, 0, 0, 1], vec![1]));
        let ignore = BulkInsert::<Answer>::new().on_conflict(OnConflict::DoNothing);
        let report = ignore.execute(pool, rows.clone()).await.unwrap();
        assert_eq!(counts(&report), [0, 2, 0, 0]);
        let report = skip.on_conflict(OnConflict::Update).execute(pool, rows).await.unwrap();
        assert_eq!(counts(&report), [1, 0, 1, 0]);
        assert_eq!(saved!(pool), [(1, "b".to_owned(), 1)]);
    }

    async fn duplicates_that_are_reported_are_bad_rows(pool) {
        let rows = vec![answer(1, "a"), answer(2, "b"), answer(2, "c"), answer(1, "d")];
        let insert = BulkInsert::<Answer>::new().duplicates(Duplicates::Report);
        let error = insert.execute(pool, rows.clone()).await.unwrap_err();
        let BatchError::Row { index: 2, code: None, message, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(message.contains("row 1"), "{message}");
        assert_eq!(saved!(pool), []);
        let skip = insert.on_row_error(OnRowError::Skip);
        let error = skip.clone().skip_limit(1).execute(pool, rows.clone()).await.unwrap_err();
        let BatchError::SkipLimit { limit: 1, failed } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(failed.len(), 2);
        assert_eq!(saved!(pool), []);
        let report = skip.clone().skip_limit(2).execute(pool, rows.clone()).await.unwrap();
        assert_eq!((counts(&report), indices(&report)), ([2, 0, 0, 2], vec![2, 3]));
        assert_eq!(report.failed[1].row, rows[3]);
    }

    async fn the_limit_counts_duplicates_and_what_the_database_refuses(pool) {
        let rows = vec![
            answer(1, "a"), answer(2, "forbidden"), answer(3, "c"), answer(4, "d"), answer(1, "e"),
        ];
        for scope in [TxScope::All, TxScope::PerChunk] {
            let skip = BulkInsert::<Answer>::new()
                .duplicates(Duplicates::Report)
                .on_row_error(OnRowError::Skip)
                .scope(scope)
                .chunk_rows(2);
            let error = skip.clone().skip_limit(1).execute(pool, rows.clone()).await.unwrap_err();
            let BatchError::SkipLimit { failed, .. } = &error else {
                panic!("{error:?}");
            };
            let failed: Vec<_> = failed.iter().map(|failure| failure.index).collect();
            assert_eq!(failed, [1, 4]);
            assert_eq!(saved!(pool), []);
            let report = skip.skip_limit(2).execute(pool, rows.clone()).await.unwrap();
            assert_eq!((counts(&report), indices(&report)), ([3, 0, 0, 2], vec![1, 4]));
            sqlx::raw_sql("DELETE FROM answers").execute(pool).await.unwrap();
        }
    }

    async fn null_in_a_key_is_never_a_duplicate(pool) {
        let visit = |answer: &str| Answer { user_id: None, ..self::answer(1, answer) };
        let rows = vec![visit("a"), answer(1, "b"), visit("c")];
        for keep in [Duplicates::KeepFirst, Duplicates::KeepLast, Duplicates::Report] {
            for conflict in [OnConflict::Error, OnConflict::Update] {
                sqlx::raw_sql("DELETE FROM answers").execute(pool).await.unwrap();
                let insert = BulkInsert::<Answer>::new().on_conflict(conflict).duplicates(keep);
                let report = insert.execute(pool, rows.clone()).await.unwrap();
                assert_eq!(counts(&report), [3, 0, 0, 0]);
            }
        }
        let update = BulkUpdate::<Answer>::by_key();
        let report = update.execute(pool, rows).await.unwrap();
        assert_eq!(counts(&report), [1, 2, 0, 0]);
        let delete = BulkDelete::<Answer>::by_key();
        let report = delete.execute(pool, vec![(None, 1), (Some(1), 1), (None, 1)]).await.unwrap();
        assert_eq!(counts(&report), [1, 2, 0, 0]);
        assert_eq!(saved!(pool).len(), 2);
    }

    async fn only_the_named_columns_are_replaced(pool) {
        let insert = BulkInsert::<Answer>::new();
        insert.execute(pool, answers(3)).await.unwrap();
        let row = Answer { points: 9, ..answer(1, "new") };
        let only = |columns: Vec<&'static str>| {
            insert.clone().on_conflict(OnConflict::update_columns(columns))
        };
        let report = only(vec!["points"]).execute(pool, vec![row.clone()]).await.unwrap();
        assert_eq!(counts(&report), [1, 0, 0, 0]);
        assert_eq!(saved!(pool)[1], (1, "a".to_owned(), 9));
        for columns in [vec![], vec!["nothing"], vec!["points", "Points"]] {
            let error = only(columns).execute(pool, vec![row.clone()]).await.unwrap_err();
            assert!(matches!(error, BatchError::Invalid { .. }), "{error:?}");
        }
    }

    async fn what_failed_behind_committed_chunks_can_be_written_again(pool) {
        for conflict in [OnConflict::Error, OnConflict::Update] {
            for bad in 7..40 {
                sqlx::raw_sql("DELETE FROM answers").execute(pool).await.unwrap();
                // Questions come again where rows are updated: the last one counts.
                let questions = if conflict == OnConflict::Update { 17 } else { 40 };
                let mut rows: Vec<Answer> =
                    (0..40).map(|n| answer(n % questions, &format!("a{n}"))).collect();
                rows[bad].answer = "forbidden".into();
                let insert = BulkInsert::<Answer>::new()
                    .on_conflict(conflict.clone())
                    .scope(TxScope::PerChunk)
                    .chunk_rows(3);
                let result = insert.execute(pool, rows.clone()).await;
                let last = rows.len() - questions as usize <= bad;
                let (first, rest) = match result {
                    Ok(report) => {
                        assert!(!last, "row {bad}");
                        assert_eq!(counts(&report)[0], questions as u64);
                        continue;
                    }
                    Err(BatchError::Partial { report, rest, source }) => {
                        let named = matches!(*source, BatchError::Row { index, .. } if index == bad);
                        assert!(named, "row {bad}: {source:?}");
                        let decided = report.written + report.ignored + report.deduplicated;
                        assert_eq!(decided + report.failed.len() as u64, rest as u64);
                        (report.written, rest)
                    }
                    Err(error) => {
                        // The first chunk: nothing is there.
                        assert!(matches!(error, BatchError::Row { .. }), "row {bad}: {error:?}");
                        (0, 0)
                    }
                };
                assert_eq!(saved!(pool).len() as u64, first);
                rows[bad].answer = format!("a{bad}");
                let report = insert.execute(pool, rows[rest..].to_vec()).await.unwrap();
                assert_eq!(first + counts(&report)[0], questions as u64);
                let wanted = (40 - questions..40).map(|n| (n % questions, format!("a{n}"), 1));
                let mut wanted: Vec<_> = wanted.collect();
                wanted.sort();
                assert_eq!(saved!(pool), wanted);
            }
        }
    }

    async fn beyond_the_limit_only_whole_chunks_before_it_stay(pool) {
        let mut rows = answers(30);
        for bad in [1, 12, 23] {
            rows[bad].answer = "forbidden".into();
        }
        let skip = BulkInsert::<Answer>::new().on_row_error(OnRowError::Skip);
        let error = skip.clone().skip_limit(2).execute(pool, rows.clone()).await.unwrap_err();
        assert!(matches!(error, BatchError::SkipLimit { limit: 2, .. }), "{error:?}");
        assert_eq!(saved!(pool), []);
        let chunks = skip.clone().scope(TxScope::PerChunk).chunk_rows(10);
        let error = chunks.skip_limit(2).execute(pool, rows.clone()).await.unwrap_err();
        let BatchError::Partial { report, rest: 20, source } = error else {
            panic!("{error:?}");
        };
        assert_eq!((report.written, indices(&report)), (18, vec![1, 12]));
        let BatchError::SkipLimit { failed, .. } = *source else {
            panic!("{source:?}");
        };
        let failed: Vec<_> = failed.iter().map(|failure| failure.index).collect();
        assert_eq!(failed, [1, 12, 23]);
        assert_eq!(saved!(pool).len(), 18);
        sqlx::raw_sql("DELETE FROM answers").execute(pool).await.unwrap();
        let report = skip.skip_limit(3).execute(pool, rows).await.unwrap();
        assert_eq!(counts(&report), [27, 0, 0, 3]);
    }

    async fn the_dead_letter_gets_the_rows_of_committed_chunks_when_a_later_one_fails(pool) {
        let letters = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&letters);
        let mut rows = answers(30);
        for bad in [3, 12, 13] {
            rows[bad].answer = "forbidden".into();
        }
        let insert = BulkInsert::<Answer>::new()
            .scope(TxScope::PerChunk)
            .chunk_rows(10)
            .on_row_error(OnRowError::Skip)
            .skip_limit(1)
            .dead_letter(move |failed| {
                let failed = failed.iter().map(|failure| (failure.index, failure.row.clone()));
                told.lock().unwrap().extend(failed);
            });
        let error = insert.execute(pool, rows.clone()).await.unwrap_err();
        assert!(matches!(error, BatchError::Partial { rest: 10, .. }), "{error:?}");
        assert_eq!(*letters.lock().unwrap(), [(3, rows[3].clone())]);
    }

    async fn the_dead_letter_comes_once_and_after_the_commit(pool) {
        let options = pool.connect_options();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&calls);
        let skip = BulkInsert::<Answer>::new()
            .on_row_error(OnRowError::Skip)
            .dead_letter(move |failed| {
                let options = Arc::clone(&options);
                let count = async move {
                    let mut conn = options.connect().await.unwrap();
                    let sql = "SELECT count(*) FROM answers";
                    let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
                    count
                };
                // Another thread, as this one is inside its runtime.
                let count = std::thread::spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(count));
                let indices: Vec<_> = failed.iter().map(|failure| failure.index).collect();
                told.lock().unwrap().push((count.join().unwrap(), indices));
            });
        let mut rows = answers(20);
        rows[3].answer = "forbidden".into();
        rows[13].answer = "forbidden".into();
        skip.execute(pool, rows.clone()).await.unwrap();
        assert_eq!(std::mem::take(&mut *calls.lock().unwrap()), [(18, vec![3, 13])]);

        // No row refused, too many, a transaction of the caller's.
        sqlx::raw_sql("DELETE FROM answers").execute(pool).await.unwrap();
        skip.execute(pool, answers(3)).await.unwrap();
        sqlx::raw_sql("DELETE FROM answers").execute(pool).await.unwrap();
        skip.clone().skip_limit(1).execute(pool, rows.clone()).await.unwrap_err();
        let mut tx = pool.begin().await.unwrap();
        skip.execute_in(&mut tx, answers(10).split_off(9)).await.unwrap();
        skip.execute_in(&mut tx, rows.split_off(13)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(*calls.lock().unwrap(), []);
    }

    async fn progress_goes_up_to_the_total(pool) {
        let rows: Vec<Answer> = (0..3_000).map(|n| answer(n % 2_500, "a")).collect();
        for (scope, chunk) in [(TxScope::All, 0), (TxScope::PerChunk, 700)] {
            for bad in [None, Some(2_999), Some(1_400)] {
                sqlx::raw_sql("DELETE FROM answers").execute(pool).await.unwrap();
                let seen = Arc::new(Mutex::new(Vec::new()));
                let see = Arc::clone(&seen);
                let mut rows = rows.clone();
                if let Some(bad) = bad {
                    rows[bad].answer = "forbidden".into();
                }
                BulkInsert::<Answer>::new()
                    .on_conflict(OnConflict::Update)
                    .on_row_error(OnRowError::Skip)
                    .scope(scope)
                    .chunk_rows(chunk)
                    .on_progress(move |progress| see.lock().unwrap().push(progress))
                    .execute(pool, rows)
                    .await
                    .unwrap();
                let seen = std::mem::take(&mut *seen.lock().unwrap());
                let last = seen.last().unwrap();
                assert_eq!((last.done, last.committed, last.total), (3_000, 3_000, 3_000));
                let commits = seen.windows(2).filter(|two| two[0].committed < two[1].committed);
                assert_eq!(commits.count(), if scope == TxScope::All { 1 } else { 4 });
                let mut starts = 0;
                for two in seen.windows(2) {
                    assert!(two[0].committed <= two[1].committed);
                    assert!(two[1].committed <= two[1].done && two[1].done <= two[1].total);
                    starts += usize::from(two[1].done < two[0].done);
                }
                // A transaction starts again for a bad row alone.
                assert!(starts <= usize::from(bad.is_some()), "{seen:?}");
            }
        }
    }

    async fn execute_in_is_part_of_the_callers_transaction(pool) {
        let insert = BulkInsert::<Answer>::new();
        let mut conn = pool.acquire().await.unwrap();
        let error = insert.execute_in(&mut conn, answers(2)).await.unwrap_err();
        assert!(matches!(error, BatchError::NoTransaction), "{error:?}");
        let error = insert.execute_in(pool, answers(2)).await.unwrap_err();
        assert!(matches!(error, BatchError::NoTransaction), "{error:?}");
        drop(conn);
        assert_eq!(saved!(pool), []);

        let mut tx = pool.begin().await.unwrap();
        insert.execute_in(&mut tx, answers(2)).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(saved!(pool), []);

        for scope in [TxScope::All, TxScope::PerChunk] {
            sqlx::raw_sql("DELETE FROM answers").execute(pool).await.unwrap();
            let insert = insert.clone().scope(scope).chunk_rows(3);
            let mut tx = pool.begin().await.unwrap();
            insert.execute_in(&mut tx, answers(2)).await.unwrap();
            let mut rows = answers(20).split_off(10);
            rows[8].answer = "forbidden".into();
            let error = insert.execute_in(&mut tx, rows.clone()).await.unwrap_err();
            assert!(matches!(error, BatchError::Row { index: 8, .. }), "{error:?}");
            // Nothing of the batch is there, and the transaction goes on.
            assert_eq!(saved!(&mut *tx).len(), 2);
            let skip = insert.clone().on_row_error(OnRowError::Skip);
            skip.clone().skip_limit(0).execute_in(&mut tx, rows.clone()).await.unwrap_err();
            assert_eq!(saved!(&mut *tx).len(), 2);
            let report = skip.execute_in(&mut tx, rows).await.unwrap();
            assert_eq!(counts(&report), [9, 0, 0, 1]);
            let update = BulkUpdate::<Answer>::by_key();
            let report = update.execute_in(&mut tx, vec![answer(0, "new")]).await.unwrap();
            assert_eq!(counts(&report), [1, 0, 0, 0]);
            tx.commit().await.unwrap();
            assert_eq!(saved!(pool).len(), 11);
        }
    }

    async fn an_empty_batch_takes_no_connection(pool) {
        pool.close().await;
        let report = BulkInsert::<Answer>::new().execute(pool, vec![]).await.unwrap();
        assert_eq!((counts(&report), report.statements), ([0; 4], 0));
        let report = BulkUpdate::<Answer>::by_key().execute(pool, vec![]).await.unwrap();
        assert_eq!((counts(&report), report.statements), ([0; 4], 0));
        let report = BulkDelete::<Answer>::by_key().execute(pool, vec![]).await.unwrap();
        assert_eq!((counts(&report), report.statements), ([0; 4], 0));
    }

    async fn rows_are_updated_by_their_key(pool) {
        BulkInsert::<Answer>::new().execute(pool, answers(10_000)).await.unwrap();
        let mut rows: Vec<Answer> = answers(10_010).into_iter().rev().collect();
        for row in &mut rows {
            row.answer = format!("new {}", row.question_id);
            row.points = row.question_id * 2;
        }
        rows.push(Answer { points: -1, ..answer(7, "last") });
        let update = BulkUpdate::<Answer>::by_key();
        let report = update.execute(pool, rows.clone()).await.unwrap();
        assert_eq!(counts(&report), [10_000, 10, 1, 0]);
        let saved = saved!(pool);
        assert_eq!(saved.len(), 10_000);
        assert_eq!(saved[7], (7, "last".to_owned(), -1));
        let right = |(n, answer, points): &(i64, String, i64)| *answer == format!("new {n}") && *points == n * 2;
        assert_eq!(saved.iter().filter(|row| right(row)).count(), 9_999);

        rows[5_000].answer = "forbidden".into();
        let error = update.execute(pool, rows.clone()).await.unwrap_err();
        assert!(matches!(error, BatchError::Row { index: 5_000, .. }), "{error:?}");
        rows[200].answer = "forbidden".into();
        let skip = update.on_row_error(OnRowError::Skip).duplicates(Duplicates::Report);
        let report = skip.execute(pool, rows.clone()).await.unwrap();
        assert_eq!(counts(&report), [9_998, 10, 0, 3]);
        assert_eq!(indices(&report), [200, 5_000, 10_010]);
        assert_eq!(report.failed[0].row, rows[200]);
    }

    async fn rows_are_deleted_by_their_key(pool) {
        BulkInsert::<Answer>::new().execute(pool, answers(10_000)).await.unwrap();
        let keys = (0..10_000).rev().filter(|n| n % 3 != 0).map(|n| (Some(1), n));
        let mut keys: Vec<_> = keys.collect();
        keys.extend([(Some(1), 1), (Some(2), 3), (Some(1), -1)]);
        let given = keys.len() as u64;
        let report = BulkDelete::<Answer>::by_key().execute(pool, keys).await.unwrap();
        assert_eq!(counts(&report), [given - 3, 2, 1, 0]);
        let saved = saved!(pool);
        assert!(saved.iter().all(|(question, ..)| question % 3 == 0));
        assert_eq!(saved.len(), 3_334);
    }

    async fn a_row_that_others_refer_to_is_named(pool) {
        sqlx::raw_sql(
            "CREATE TABLE users (id BIGINT PRIMARY KEY);
             CREATE TABLE posts (author BIGINT REFERENCES users)",
        )
        .execute(pool)
        .await
        .unwrap();
        let users = Table::new("users").column(Column::new("id").key());
        let rows = (0..600).map(|id| User { id }).collect();
        BulkInsert::into_table(users).execute(pool, rows).await.unwrap();
        sqlx::raw_sql("INSERT INTO posts VALUES (417)").execute(pool).await.unwrap();
        let delete = BulkDelete::<User>::by_key();
        // A key of one field is that field.
        let keys: Vec<i64> = (0..600).rev().collect();
        let error = delete.execute(pool, keys).await.unwrap_err();
        assert!(matches!(error, BatchError::Row { index: 182, .. }), "{error:?}");
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(pool).await.unwrap();
        assert_eq!(left, 600);
        let keys = (0..600).filter(|id| *id != 417).collect();
        let report = delete.execute(pool, keys).await.unwrap();
        assert_eq!(counts(&report), [599, 0, 0, 0]);
    }

    async fn a_unique_column_that_rows_hand_on_is_checked_row_by_row(pool) {
        sqlx::raw_sql("CREATE TABLE seats (id BIGINT PRIMARY KEY, name TEXT UNIQUE)")
            .execute(pool)
            .await
            .unwrap();
        let seat = |id, name: &str| Seat { id, name: name.into() };
        let rows = vec![seat(1, "a"), seat(2, "b"), seat(3, "c")];
        BulkInsert::<Seat>::new().execute(pool, rows).await.unwrap();
        let skip = BulkUpdate::<Seat>::by_key().on_row_error(OnRowError::Skip);
        // The first two take what the other still has, whichever row is met first.
        let rows = vec![seat(2, "a"), seat(1, "b"), seat(3, "d"), seat(4, "x")];
        let report = skip.execute(pool, rows).await.unwrap();
        assert_eq!((counts(&report), indices(&report)), ([1, 1, 0, 2], vec![0, 1]));
        for rows in [
            vec![seat(1, "b"), seat(2, "c")],
            vec![seat(2, "e"), seat(1, "c"), seat(3, "a")],
        ] {
            let mut failed = Vec::new();
            let mut names: Vec<(i64, String)> =
                sqlx::query_as("SELECT id, name FROM seats").fetch_all(pool).await.unwrap();
            for (at, row) in rows.iter().enumerate() {
                if names.iter().any(|(id, name)| *id != row.id && *name == row.name) {
                    failed.push(at);
                } else if let Some(place) = names.iter_mut().find(|(id, _)| *id == row.id) {
                    place.1.clone_from(&row.name);
                }
            }
            let report = skip.execute(pool, rows).await.unwrap();
            assert_eq!(indices(&report), failed);
        }
    }

    async fn a_row_that_is_not_whole_does_not_choose_the_way(pool) {
        let table = ["user_id", "question_id", "answer", "points"].into_iter();
        let table = table.fold(Table::new("answers"), |table, name| table.column(Column::new(name)));
        let rows = vec![Loose(answer(1, "a"), false), Loose(answer(2, "b"), true)];
        let skip = BulkInsert::into_table(table).on_row_error(OnRowError::Skip);
        let whole = skip.execute(pool, vec![Loose(answer(0, "z"), true)]).await.unwrap();
        let report = skip.execute(pool, rows).await.unwrap();
        assert_eq!((counts(&report), indices(&report)), ([1, 0, 0, 1], vec![0]));
        assert_eq!(report.path, whole.path);
    }
}

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "users")]
struct User {
    #[bulk(key)]
    id: i64,
}

#[derive(Debug, Clone, PartialEq, BulkRow)]
#[bulk(table = "seats")]
struct Seat {
    #[bulk(key)]
    id: i64,
    name: String,
}

/// A row that may leave out its last value.
#[derive(Debug, Clone)]
struct Loose(Answer, bool);

impl<DB: sqlx::Database> perf_batch::BulkValues<DB> for Loose
where
    Option<i64>: for<'q> sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    i64: for<'q> sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    String: for<'q> sqlx::Encode<'q, DB> + sqlx::Type<DB>,
{
    fn values<S: perf_batch::ValueSink<DB>>(
        &self,
        sink: &mut S,
    ) -> Result<(), sqlx::error::BoxDynError> {
        sink.push(self.0.user_id)?;
        sink.push(self.0.question_id)?;
        sink.push(&self.0.answer)?;
        if self.1 {
            sink.push(self.0.points)?;
        }
        Ok(())
    }
}
