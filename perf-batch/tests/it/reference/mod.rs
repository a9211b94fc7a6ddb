//! The definition of a bad row: the rows go in one by one, each under a savepoint; those that fail
//! are bad. Everything that writes faster is held against this.

mod node;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use perf_batch::{
    BatchError, BatchReport, BulkInsert, Duplicates, OnConflict, OnRowError, Path, TxScope,
};
use proptest::prelude::*;
use sqlx::{Database, Pool};

use node::{Node, conflict, nodes};

/// What the reference needs of a database.
trait Backend: Database {
    const CONSTRAINTS_IMMEDIATE: &'static str;

    async fn command(conn: &mut Self::Connection, sql: &'static str);

    /// Inserts one row; returns how many were written.
    async fn insert(conn: &mut Self::Connection, sql: String, node: &Node) -> sqlx::Result<u64>;

    /// All there is in the tables, in an order of its own.
    async fn content(conn: &mut Self::Connection, sql: &'static str) -> Vec<String>;

    async fn execute(
        pool: &Pool<Self>,
        insert: &BulkInsert<Node>,
        rows: Vec<Node>,
    ) -> Result<BatchReport<Node>, BatchError>;
}

/// A table called nodes, in one of its guises.
#[derive(Debug, Clone, Copy)]
struct Guise {
    name: &'static str,
    schema: &'static str,
    reset: &'static str,
    content: &'static str,
}

/// A batch and all that decides about it.
#[derive(Debug, Clone)]
struct Case {
    rows: Vec<Node>,
    conflict: OnConflict,
    duplicates: Option<Duplicates>,
    chunk_rows: Option<usize>,
    path: Option<Path>,
    tagged: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let duplicates = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Duplicates::KeepFirst)),
        1 => Just(Some(Duplicates::KeepLast)),
        1 => Just(Some(Duplicates::Report)),
    ];
    let chunk_rows = prop_oneof![2 => Just(None), 1 => (1..6_usize).prop_map(Some)];
    (nodes(), conflict(), duplicates, chunk_rows).prop_map(
        |(rows, conflict, duplicates, chunk_rows)| Case {
            rows,
            conflict,
            duplicates,
            chunk_rows,
            path: None,
            tagged: false,
        },
    )
}

/// A row's index, code and constraint.
type Refused = (usize, Option<String>, Option<String>);

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    written: u64,
    ignored: u64,
    deduplicated: u64,
    failed: Vec<Refused>,
    content: Vec<String>,
}

/// The rows that count, and what those that do not came to.
fn deduplicate(case: &Case, outcome: &mut Outcome) -> Vec<usize> {
    let updates = matches!(
        case.conflict,
        OnConflict::Update | OnConflict::UpdateColumns(_)
    );
    let all = 0..case.rows.len();
    let Some(keep) = case.duplicates.or(updates.then_some(Duplicates::KeepLast)) else {
        return all.collect();
    };
    let same = |a: usize, b: usize| case.rows[a].id.is_some() && case.rows[a].id == case.rows[b].id;
    let earlier = |row: usize| (0..row).any(|other| same(other, row));
    let later = |row: usize| (row + 1..case.rows.len()).any(|other| same(other, row));
    all.filter(|row| {
        let out = match keep {
            Duplicates::KeepLast => later(*row),
            _ => earlier(*row),
        };
        if out && keep == Duplicates::Report {
            outcome.failed.push((*row, None, None));
        } else if out {
            outcome.deduplicated += 1;
        }
        !out
    })
    .collect()
}

async fn one_by_one<B: Backend>(conn: &mut B::Connection, guise: &Guise, case: &Case) -> Outcome {
    B::command(conn, guise.reset).await;
    let mut outcome = Outcome::default();
    let rows = deduplicate(case, &mut outcome);
    let sql = node::insert(&case.conflict, case.tagged);
    for chunk in rows.chunks(case.chunk_rows.unwrap_or(usize::MAX)) {
        B::command(conn, "BEGIN").await;
        B::command(conn, B::CONSTRAINTS_IMMEDIATE).await;
        for &index in chunk {
            B::command(conn, "SAVEPOINT one").await;
            match B::insert(conn, sql.clone(), &case.rows[index]).await {
                Ok(0) => outcome.ignored += 1,
                Ok(_) => outcome.written += 1,
                Err(error) => {
                    B::command(conn, "ROLLBACK TO SAVEPOINT one").await;
                    outcome.failed.push(refused(index, &error));
                }
            }
            B::command(conn, "RELEASE SAVEPOINT one").await;
        }
        B::command(conn, "COMMIT").await;
    }
    outcome.failed.sort();
    outcome.content = B::content(conn, guise.content).await;
    outcome
}

fn refused(index: usize, error: &sqlx::Error) -> Refused {
    let Some(error) = error.as_database_error() else {
        assert!(matches!(error, sqlx::Error::Encode(_)), "{error:?}");
        return (index, None, None);
    };
    let code = error.code().map(|code| code.into_owned());
    let constraint = error.constraint().map(str::to_owned);
    (index, code, constraint)
}

async fn by_batch<B: Backend>(pool: &Pool<B>, guise: &Guise, case: &Case) -> Outcome {
    let mut conn = pool.acquire().await.unwrap();
    B::command(&mut conn, guise.reset).await;
    drop(conn);
    let mut insert = BulkInsert::<Node>::into_table(node::table(case.tagged))
        .on_conflict(case.conflict.clone())
        .on_row_error(OnRowError::Skip);
    if let Some(duplicates) = case.duplicates {
        insert = insert.duplicates(duplicates);
    }
    if let Some(rows) = case.chunk_rows {
        insert = insert.scope(TxScope::PerChunk).chunk_rows(rows);
    }
    if let Some(path) = case.path {
        insert = insert.path(path);
    }
    let mut rows = case.rows.clone();
    for row in &mut rows {
        row.tagged = case.tagged;
    }
    let report = B::execute(pool, &insert, rows.clone()).await.unwrap();
    let failed = report.failed.iter().map(|failure| {
        assert_eq!(failure.row, rows[failure.index]);
        // SQLite's constraints are known by their messages, which are ours to tell.
        let constraint = failure.constraint.clone();
        let constraint = constraint.filter(|_| B::NAME == "PostgreSQL");
        (failure.index, failure.code.clone(), constraint)
    });
    let failed: Vec<Refused> = failed.collect();
    let sum = report.written + report.ignored + report.deduplicated + failed.len() as u64;
    assert_eq!(sum, rows.len() as u64);
    let mut conn = pool.acquire().await.unwrap();
    Outcome {
        written: report.written,
        ignored: report.ignored,
        deduplicated: report.deduplicated,
        failed,
        content: B::content(&mut conn, guise.content).await,
    }
}

async fn agree<B: Backend>(
    pool: &Pool<B>,
    guise: &Guise,
    case: &Case,
) -> Result<(), TestCaseError> {
    let mut conn = pool.acquire().await.unwrap();
    let wanted = one_by_one::<B>(&mut conn, guise, case).await;
    drop(conn);
    let ours = by_batch(pool, guise, case).await;
    prop_assert_eq!(ours, wanted, "on {}", guise.name);
    Ok(())
}

/// Tries as many cases on each of the pools' tables.
fn all_agree<B: Backend>(
    rt: &tokio::runtime::Runtime,
    pools: &[(Guise, Pool<B>)],
    cases: impl Strategy<Value = Case>,
    number: u32,
) {
    let config = ProptestConfig {
        cases: number,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    proptest!(config, |(case in cases)| {
        for (guise, pool) in pools {
            rt.block_on(agree(pool, guise, &case))?;
        }
    });
}
