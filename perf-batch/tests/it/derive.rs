use perf_batch::{BulkRow, Column, Table};

#[derive(BulkRow)]
#[bulk(table = "quiz.answers")]
#[expect(dead_code, reason = "only the mapping is looked at")]
struct Answer<T> {
    #[bulk(key, rename = "user")]
    user_id: i64,
    #[bulk(pg_type = "mood")]
    mood: T,
    #[bulk(skip)]
    cached: bool,
}

#[test]
fn the_table_is_as_the_attributes_say() {
    let wanted = Table::new("quiz.answers")
        .column(Column::new("user").key())
        .column(Column::new("mood").pg_type("mood"));
    assert_eq!(Answer::<String>::table(), wanted);
}
