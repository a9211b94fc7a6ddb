use perf_batch_derive::BulkRow;

#[derive(BulkRow)]
#[bulk(table = "answers", schema = "quiz")]
struct UnknownOnStruct {
    id: i64,
}

#[derive(BulkRow)]
#[bulk(table = "answers")]
struct UnknownOnField {
    #[bulk(primary_key)]
    id: i64,
}

#[derive(BulkRow)]
#[bulk(table = "answers")]
struct KeyAndSkip {
    #[bulk(key, skip)]
    id: i64,
    answer: String,
}

#[derive(BulkRow)]
#[bulk(table = "answers")]
struct Twice {
    id: i64,
    #[bulk(rename = "id")]
    other: i64,
}

#[derive(BulkRow)]
#[bulk(table = "")]
struct EmptyName {
    id: i64,
}

#[derive(BulkRow)]
#[bulk(table = "answers")]
struct NothingLeft {
    #[bulk(skip)]
    id: i64,
}

fn main() {}
