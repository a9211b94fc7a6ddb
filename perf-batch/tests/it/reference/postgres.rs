use perf_batch::{BatchError, BatchReport, BulkInsert, Path};
use proptest::prelude::*;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Postgres};
use tokio::runtime::Runtime;

use super::node::Node;
use super::{Backend, Case, Guise, all_agree, case};

impl Backend for Postgres {
    const CONSTRAINTS_IMMEDIATE: &'static str = "SET CONSTRAINTS ALL IMMEDIATE";

    async fn command(conn: &mut PgConnection, sql: &'static str) {
        sqlx::raw_sql(sql).execute(conn).await.unwrap();
    }

    async fn insert(conn: &mut PgConnection, sql: String, node: &Node) -> sqlx::Result<u64> {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(node.id);
        let query = query.bind(node.parent).bind(&node.label).bind(node.weight);
        query.execute(conn).await.map(|done| done.rows_affected())
    }

    async fn content(conn: &mut PgConnection, sql: &'static str) -> Vec<String> {
        sqlx::query_scalar(sql).fetch_all(conn).await.unwrap()
    }

    async fn execute(
        pool: &PgPool,
        insert: &BulkInsert<Node>,
        rows: Vec<Node>,
    ) -> Result<BatchReport<Node>, BatchError> {
        insert.execute(pool, rows).await
    }
}

/// The table without anything that makes it special; `{}` comes before its end.
macro_rules! nodes {
    ($name:literal, $more:literal) => {
        concat!(
            "CREATE TABLE ",
            $name,
            " (
                id bigint NOT NULL,
                parent bigint,
                label text NOT NULL,
                weight bigint CONSTRAINT weight CHECK (weight < 90),
                tags bigint[],
                CONSTRAINT id PRIMARY KEY (id) ",
            $more,
            ");"
        )
    };
}

const RESET: &str =
    "DELETE FROM nodes; INSERT INTO nodes VALUES (3, NULL, 'l3', 1), (5, NULL, 'l1', 1)";
const CONTENT: &str = "SELECT n::text FROM nodes n ORDER BY id";

/// A trigger in PL/pgSQL: its function's body, its volatility and when it runs.
macro_rules! trigger {
    ($body:literal, $volatile:literal, $when:literal) => {
        concat!(
            "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql ",
            $volatile,
            " AS $$ BEGIN ",
            $body,
            " END $$;
             CREATE TRIGGER act ",
            $when,
            " EXECUTE FUNCTION act();"
        )
    };
}

const fn guise(name: &'static str, schema: &'static str) -> Guise {
    Guise {
        name,
        schema,
        reset: RESET,
        content: CONTENT,
    }
}

const GUISES: &[Guise] = &[
    guise("plain", nodes!("nodes", ", CONSTRAINT label UNIQUE (label)")),
    guise(
        "refers to itself",
        nodes!(
            "nodes",
            ", CONSTRAINT label UNIQUE (label), CONSTRAINT parent FOREIGN KEY (parent) REFERENCES nodes"
        ),
    ),
    guise(
        "refers to itself, deferred",
        nodes!(
            "nodes",
            ", CONSTRAINT label UNIQUE (label) DEFERRABLE INITIALLY DEFERRED,
             CONSTRAINT parent FOREIGN KEY (parent) REFERENCES nodes DEFERRABLE INITIALLY DEFERRED"
        ),
    ),
    guise(
        "a trigger before each row looks at the table",
        concat!(
            nodes!("nodes", ", CONSTRAINT label UNIQUE (label)"),
            trigger!(
                "IF NEW.weight >= 80 AND (SELECT count(*) FROM nodes) > 4 THEN
                     RAISE EXCEPTION 'full' USING ERRCODE = 'QZ001';
                 END IF;
                 IF NEW.parent = 7 THEN RETURN NULL; END IF;
                 RETURN NEW;",
                "",
                "BEFORE INSERT OR UPDATE ON nodes FOR EACH ROW"
            )
        ),
    ),
    guise(
        "a stable trigger before each row looks at the table",
        concat!(
            nodes!("nodes", ""),
            trigger!(
                "IF NEW.weight >= 80 AND (SELECT count(*) FROM nodes) > 4 THEN
                     RAISE SQLSTATE '45001';
                 END IF;
                 RETURN NEW;",
                "STABLE",
                "BEFORE INSERT OR UPDATE ON nodes FOR EACH ROW"
            )
        ),
    ),
    guise(
        "a trigger after each row looks at the table",
        concat!(
            nodes!("nodes", ", CONSTRAINT label UNIQUE (label)"),
            trigger!(
                "ASSERT (SELECT count(*) FROM nodes WHERE weight >= 80) < 3, 'too many';
                 RETURN NULL;",
                "",
                "AFTER INSERT OR UPDATE ON nodes FOR EACH ROW"
            )
        ),
    ),
    guise(
        "a trigger after the statement looks at the table",
        concat!(
            nodes!("nodes", ", CONSTRAINT parent FOREIGN KEY (parent) REFERENCES nodes"),
            trigger!(
                "IF (SELECT sum(weight) FROM nodes) BETWEEN 100 AND 150 THEN
                     RAISE EXCEPTION 'unlucky';
                 END IF;
                 RETURN NULL;",
                "",
                "AFTER INSERT OR UPDATE ON nodes FOR EACH STATEMENT"
            )
        ),
    ),
    Guise {
        name: "a trigger writes what another row refers to",
        schema: concat!(
            "CREATE TABLE places (id bigint PRIMARY KEY);",
            nodes!("nodes", ", CONSTRAINT parent FOREIGN KEY (parent) REFERENCES places"),
            trigger!(
                "INSERT INTO places VALUES (NEW.id) ON CONFLICT DO NOTHING; RETURN NEW;",
                "",
                "BEFORE INSERT ON nodes FOR EACH ROW"
            )
        ),
        reset: "DELETE FROM nodes; DELETE FROM places",
        content: CONTENT,
    },
    Guise {
        name: "another table refers to its labels",
        schema: concat!(
            nodes!("nodes", ", CONSTRAINT label UNIQUE (label)"),
            "CREATE TABLE notes (label text REFERENCES nodes (label))"
        ),
        reset: "DELETE FROM notes; DELETE FROM nodes;
            INSERT INTO nodes VALUES (3, NULL, 'l3', 1), (5, NULL, 'l1', 1);
            INSERT INTO notes VALUES ('l3')",
        content: CONTENT,
    },
    guise(
        "a view of a table that refers to itself",
        concat!(
            nodes!(
                "behind",
                ", CONSTRAINT label UNIQUE (label), CONSTRAINT parent FOREIGN KEY (parent) REFERENCES behind"
            ),
            "CREATE VIEW nodes AS SELECT * FROM behind"
        ),
    ),
    guise(
        "a partition with a trigger of its own",
        concat!(
            "CREATE TABLE nodes (
                id bigint PRIMARY KEY, parent bigint, label text NOT NULL, weight bigint CHECK (weight < 90), tags bigint[]
             ) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF nodes FOR VALUES FROM (0) TO (4);
             CREATE TABLE high PARTITION OF nodes FOR VALUES FROM (4) TO (300);",
            trigger!(
                "IF (SELECT count(*) FROM nodes) = 5 THEN RAISE EXCEPTION 'five'; END IF; RETURN NULL;",
                "",
                "AFTER INSERT ON high FOR EACH ROW"
            )
        ),
    ),
    guise(
        "a check that looks at the table",
        concat!(
            "CREATE FUNCTION room(weight bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
             BEGIN RETURN weight < 80 OR (SELECT count(*) FROM nodes) < 4; END $$;",
            nodes!("nodes", ", CONSTRAINT room CHECK (room(weight))")
        ),
    ),
];

#[derive(Clone, Copy, PartialEq)]
enum Rights {
    All,
    NoFunctions,
    /// As a COPY has none.
    NoViews,
}

/// The guises, each in a schema of its own.
async fn pools(rights: Rights) -> Option<Vec<(Guise, PgPool)>> {
    let server = testkit::Postgres::shared().await?;
    let mut pools = Vec::new();
    for guise in GUISES {
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect(&server.schema_url().await).await.unwrap();
        sqlx::raw_sql(guise.schema).execute(&pool).await.unwrap();
        if rights == Rights::NoFunctions {
            without_functions(&pool).await;
        }
        pools.push((*guise, pool));
    }
    Some(pools)
}

/// From here on the pool's one connection may not make temporary functions.
async fn without_functions(pool: &PgPool) {
    sqlx::raw_sql(
        "DO $$ DECLARE role text := 'plain_' || current_schema(); BEGIN
             EXECUTE format('CREATE ROLE %I', role);
             EXECUTE format('GRANT ALL ON SCHEMA %I TO %I', current_schema(), role);
             EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA %I TO %I', current_schema(), role);
             EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM public', current_database());
             EXECUTE format('SET ROLE %I', role);
         END $$",
    )
    .execute(pool)
    .await
    .unwrap();
    let made = sqlx::raw_sql("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        .execute(pool)
        .await;
    assert!(made.is_err(), "the role may make temporary functions");
}

fn check(rights: Rights, cases: impl Strategy<Value = Case>, number: u32) {
    let rt = Runtime::new().unwrap();
    if let Some(mut pools) = rt.block_on(pools(rights)) {
        // There is no COPY into a view.
        pools.retain(|(guise, _)| rights != Rights::NoViews || !guise.name.starts_with("a view"));
        all_agree(&rt, &pools, cases, number);
    }
}

#[test]
fn arrays_name_the_rows_that_fail_one_by_one() {
    check(Rights::All, case(), 40);
}

#[test]
fn arrays_without_a_function_name_the_rows_that_fail_one_by_one() {
    check(Rights::NoFunctions, case(), 15);
}

#[test]
fn rows_of_values_name_the_rows_that_fail_one_by_one() {
    let cases = case().prop_map(|case| Case {
        tagged: true,
        ..case
    });
    check(Rights::All, cases, 20);
}

#[test]
fn copies_name_the_rows_that_fail_one_by_one() {
    let cases = case().prop_map(|mut case| {
        case.conflict = perf_batch::OnConflict::Error;
        case.path = Some(Path::Copy);
        case
    });
    check(Rights::NoViews, cases, 25);
}
