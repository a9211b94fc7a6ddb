use perf_batch_derive::BulkRow;

#[derive(BulkRow)]
struct Answer {
    id: i64,
}

fn main() {}
