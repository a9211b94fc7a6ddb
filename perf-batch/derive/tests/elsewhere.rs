//! Where perf-batch goes by another name: it is no dependency here at all.

use elsewhere::{BulkRow as _, BulkValues as _};
use perf_batch_derive::BulkRow;

/// As much of perf-batch as the output names.
mod elsewhere {
    use std::cmp::Ordering;

    pub(crate) struct Table(pub(crate) Vec<&'static str>);

    impl Table {
        pub(crate) fn new(name: &'static str) -> Self {
            Self(vec![name])
        }

        pub(crate) fn column(mut self, column: Column) -> Self {
            self.0.push(column.0);
            self
        }
    }

    pub(crate) struct Column(&'static str);

    impl Column {
        pub(crate) fn new(name: &'static str) -> Self {
            Self(name)
        }

        pub(crate) fn key(self) -> Self {
            self
        }
    }

    pub(crate) trait BulkRow {
        fn table() -> Table;
    }

    pub(crate) trait BulkValues<DB> {
        fn values<S: ValueSink<DB>>(&self, sink: &mut S) -> Result<(), __private::BoxDynError>;

        fn key_cmp(&self, other: &Self) -> Option<Ordering>;
    }

    pub(crate) trait BulkKey {
        type Key;

        fn has_null(key: &Self::Key) -> bool;
    }

    pub(crate) trait BulkKeyValues<DB>: BulkKey {
        fn key_values<S: ValueSink<DB>>(
            key: &Self::Key,
            sink: &mut S,
        ) -> Result<(), __private::BoxDynError>;
    }

    pub(crate) trait ValueSink<DB> {
        fn push<T>(&mut self, value: T) -> Result<(), __private::BoxDynError>;
    }

    pub(crate) mod __private {
        pub(crate) type BoxDynError = Box<dyn std::error::Error>;

        pub(crate) trait Database {}
        impl Database for () {}

        pub(crate) trait Encode<'q, DB> {}
        impl<T> Encode<'_, ()> for T {}

        pub(crate) trait Type<DB> {}
        impl<T> Type<()> for T {}

        pub(crate) struct Key<'a, T>(pub(crate) &'a T);

        pub(crate) trait OptionKey {
            fn is_null(&self) -> bool;
        }

        impl<T> OptionKey for Key<'_, Option<T>> {
            fn is_null(&self) -> bool {
                self.0.is_none()
            }
        }

        pub(crate) trait AnyKey {
            fn is_null(&self) -> bool;
        }

        impl<T> AnyKey for &Key<'_, T> {
            fn is_null(&self) -> bool {
                false
            }
        }
    }
}

#[derive(BulkRow)]
#[bulk(table = "answers", crate = "crate::elsewhere")]
struct Answer {
    #[bulk(key)]
    id: i64,
    #[bulk(key)]
    part: Option<i64>,
    answer: String,
}

struct Count(usize);

impl elsewhere::ValueSink<()> for Count {
    fn push<T>(&mut self, _value: T) -> Result<(), elsewhere::__private::BoxDynError> {
        self.0 += 1;
        Ok(())
    }
}

#[test]
fn the_path_of_the_crate_can_be_given() {
    assert_eq!(Answer::table().0, ["answers", "id", "part", "answer"]);
    let answer = |part| Answer {
        id: 1,
        part,
        answer: "42".into(),
    };
    let mut count = Count(0);
    answer(None).values(&mut count).unwrap();
    assert_eq!(count.0, 3);
    <Answer as elsewhere::BulkKeyValues<()>>::key_values(&(1, None), &mut count).unwrap();
    assert_eq!(count.0, 5);
    assert!(
        answer(Some(1))
            .key_cmp(&answer(Some(2)))
            .is_some_and(std::cmp::Ordering::is_lt)
    );
    assert_eq!(answer(None).key_cmp(&answer(None)), None);
    let has_null = <Answer as elsewhere::BulkKey>::has_null;
    assert!(has_null(&(1, None)) && !has_null(&(1, Some(2))));
}
