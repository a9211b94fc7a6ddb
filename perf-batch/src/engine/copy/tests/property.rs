use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[derive(Debug, Clone)]
struct Any {
    id: i64,
    text: Option<String>,
    double: Option<f64>,
    yes: bool,
    bytes: Vec<u8>,
    list: Option<Vec<Option<i32>>>,
}

impl BulkValues<Postgres> for Any {
    fn values<S: ValueSink<Postgres>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
        sink.push(self.id)?;
        sink.push(self.text.as_deref())?;
        sink.push(self.double)?;
        sink.push(self.yes)?;
        sink.push(self.bytes.as_slice())?;
        sink.push(self.list.as_deref())
    }
}

fn any_row() -> impl Strategy<Value = Any> {
    let text = option::of("[^\\x00]{0,20}");
    let list = option::of(vec(option::of(any::<i32>()), 0..5));
    let bytes = vec(any::<u8>(), 0..20);
    let double = option::of(any::<f64>());
    (any::<i64>(), text, double, any::<bool>(), bytes, list).prop_map(
        |(id, text, double, yes, bytes, list)| Any {
            id,
            text,
            double,
            yes,
            bytes,
            list,
        },
    )
}

const COLUMNS: &str = "(id bigint, text text, double double precision, yes boolean, bytes bytea,
    list integer[])";

#[test]
fn any_rows_are_stored_as_inserts_one_by_one_store_them() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(pool) = runtime.block_on(pool("")) else {
        return;
    };
    for table in ["copied", "inserted"] {
        runtime.block_on(execute(&pool, &format!("CREATE TABLE {table} {COLUMNS}")));
    }
    let names = ["id", "text", "double", "yes", "bytes", "list"];
    let table = table("copied", &names.map(Column::new));
    let mut runner = TestRunner::new(Config::with_cases(48));
    let cases = (vec(any_row(), 1..40), 200..4_000_usize);
    let run = runner.run(&cases, |(rows, max_bytes)| {
        runtime.block_on(async {
            execute(&pool, "TRUNCATE copied, inserted").await;
            let copied = copy(&pool, &table, &rows, max_bytes).await.unwrap();
            prop_assert_eq!(copied, rows.len() as u64);
            for row in rows {
                sqlx::query("INSERT INTO inserted VALUES ($1, $2, $3, $4, $5, $6)")
                    .bind(row.id)
                    .bind(row.text)
                    .bind(row.double)
                    .bind(row.yes)
                    .bind(row.bytes)
                    .bind(row.list)
                    .execute(&pool)
                    .await
                    .unwrap();
            }
            let differ = "SELECT count(*) FROM (
                (SELECT * FROM copied EXCEPT ALL SELECT * FROM inserted) UNION ALL
                (SELECT * FROM inserted EXCEPT ALL SELECT * FROM copied)) AS differ";
            prop_assert_eq!(count(&pool, differ).await, 0);
            Ok(())
        })
    });
    run.unwrap();
}
