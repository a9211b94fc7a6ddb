use perf_batch_derive::BulkRow;

#[derive(BulkRow)]
#[bulk(table = "answers")]
enum Answer {
    Yes,
    No,
}

#[derive(BulkRow)]
#[bulk(table = "answers")]
struct Pair(i64, i64);

fn main() {}
