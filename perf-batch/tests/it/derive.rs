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

/// Everything that the derive's output could mistake for its own.
#[expect(
    dead_code,
    non_upper_case_globals,
    reason = "it is enough that this compiles"
)]
mod names {
    struct Option;
    struct Result;
    struct Some;
    struct Ok;
    struct Key;
    struct Table;
    struct Column;
    trait Ord {}
    trait Encode {}
    const sink: () = ();
    const order: () = ();
    const other: () = ();

    #[derive(perf_batch::BulkRow)]
    #[bulk(table = "t")]
    pub(super) struct Row<'a, const N: usize, T: Copy = i64>
    where
        T: std::cmp::Ord,
    {
        #[bulk(key)]
        r#type: &'a str,
        #[bulk(key)]
        order: T,
        sink: std::option::Option<T>,
        #[bulk(skip)]
        other: [u8; N],
    }
}

#[test]
fn the_output_needs_no_name_of_the_users() {
    let columns = names::Row::<'static, 3>::table();
    let columns: Vec<_> = columns.columns().iter().map(Column::name).collect();
    assert_eq!(columns, ["type", "order", "sink"]);
}
