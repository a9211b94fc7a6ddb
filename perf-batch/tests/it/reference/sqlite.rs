use perf_batch::{BatchError, BatchReport, BulkInsert};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{AssertSqlSafe, Sqlite};
use tokio::runtime::Runtime;

use super::node::Node;
use super::{Backend, Guise, all_agree, case};
use crate::support::lite::Lite;

impl Backend for Sqlite {
    const CONSTRAINTS_IMMEDIATE: &'static str = "SELECT 1";

    async fn command(conn: &mut SqliteConnection, sql: &'static str) {
        sqlx::raw_sql(sql).execute(conn).await.unwrap();
    }

    async fn insert(conn: &mut SqliteConnection, sql: String, node: &Node) -> sqlx::Result<u64> {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(node.id);
        let query = query.bind(node.parent).bind(&node.label).bind(node.weight);
        query.execute(conn).await.map(|done| done.rows_affected())
    }

    async fn content(conn: &mut SqliteConnection, sql: &'static str) -> Vec<String> {
        sqlx::query_scalar(sql).fetch_all(conn).await.unwrap()
    }

    async fn execute(
        pool: &SqlitePool,
        insert: &BulkInsert<Node>,
        rows: Vec<Node>,
    ) -> Result<BatchReport<Node>, BatchError> {
        insert.execute(pool, rows).await
    }
}

macro_rules! nodes {
    ($more:literal) => {
        concat!(
            "CREATE TABLE nodes (
                id INT NOT NULL PRIMARY KEY,
                parent INTEGER,
                label TEXT NOT NULL,
                weight INTEGER CHECK (weight < 90) ",
            $more,
            ");"
        )
    };
}

const RESET: &str =
    "DELETE FROM nodes; INSERT INTO nodes VALUES (3, NULL, 'l3', 1), (5, NULL, 'l1', 1)";
const CONTENT: &str =
    "SELECT concat_ws(' ', id, coalesce(parent, '-'), label, weight) FROM nodes ORDER BY id";

const fn guise(name: &'static str, schema: &'static str) -> Guise {
    Guise {
        name,
        schema,
        reset: RESET,
        content: CONTENT,
    }
}

const GUISES: &[Guise] = &[
    guise("plain", nodes!(", UNIQUE (label)")),
    guise(
        "refers to itself",
        nodes!(", UNIQUE (label), FOREIGN KEY (parent) REFERENCES nodes (id)"),
    ),
    guise(
        "triggers that look at the table",
        concat!(
            nodes!(", UNIQUE (label), FOREIGN KEY (parent) REFERENCES Nodes"),
            "CREATE TRIGGER heavy BEFORE INSERT ON nodes WHEN NEW.weight >= 85 BEGIN
                 INSERT INTO seen VALUES (NEW.id);
                 SELECT RAISE(FAIL, 'full') WHERE (SELECT count(*) FROM nodes) > 4;
             END;
             CREATE TRIGGER odd AFTER UPDATE ON nodes WHEN NEW.weight >= 80 BEGIN
                 SELECT RAISE(ABORT, 'no') WHERE (SELECT sum(weight) FROM nodes) % 3 = 0;
             END;
             CREATE TRIGGER out BEFORE INSERT ON nodes WHEN NEW.parent = 7 BEGIN
                 SELECT RAISE(IGNORE);
             END;
             CREATE TABLE seen (id)"
        ),
    ),
    Guise {
        name: "a trigger writes what another row refers to",
        schema: concat!(
            "CREATE TABLE places (id INTEGER PRIMARY KEY);",
            nodes!(", FOREIGN KEY (parent) REFERENCES places"),
            "CREATE TRIGGER place AFTER INSERT ON nodes BEGIN
                 INSERT INTO places VALUES (NEW.id) ON CONFLICT DO NOTHING;
             END"
        ),
        reset: "DELETE FROM nodes; DELETE FROM places",
        content: CONTENT,
    },
    Guise {
        name: "another table refers to its labels",
        schema: concat!(
            nodes!(", UNIQUE (label)"),
            "CREATE TABLE notes (label TEXT REFERENCES nodes (label))"
        ),
        reset: "DELETE FROM notes; DELETE FROM nodes;
            INSERT INTO nodes VALUES (3, NULL, 'l3', 1), (5, NULL, 'l1', 1);
            INSERT INTO notes VALUES ('l3')",
        content: CONTENT,
    },
];

#[test]
fn rows_of_values_name_the_rows_that_fail_one_by_one() {
    let rt = Runtime::new().unwrap();
    let mut lites = Vec::new();
    for guise in GUISES {
        let lite = rt.block_on(Lite::with_connections(guise.schema, 1));
        lites.push((*guise, lite));
    }
    let pools: Vec<_> = lites
        .iter()
        .map(|(guise, lite)| (*guise, lite.pool.clone()))
        .collect();
    all_agree(&rt, &pools, case(), 100);
}
