use std::cmp::Ordering;

use sqlx::Database;

use crate::{BulkValues, Duplicates};

/// A row and its position in the input.
pub(crate) type Indexed<'a, R> = (usize, &'a R);

/// The rows in the order of the input, each with its position.
pub(crate) fn indexed<R>(rows: &[R]) -> Vec<Indexed<'_, R>> {
    rows.iter().enumerate().collect()
}

/// Leaves one of the rows that have the same key: the last or the first. Returns those left out,
/// each as its own position in the input and that of the row that counts. The order stays as it was.
pub(crate) fn merge<DB: Database, R: BulkValues<DB>>(
    batch: &mut Vec<Indexed<'_, R>>,
    keep: Duplicates,
) -> Vec<(usize, usize)> {
    let mut left_out = Vec::new();
    // Rows often come in key order, and then they are told apart without sorting.
    if batch.is_sorted_by(|a, b| a.1.key_cmp(b.1) == Some(Ordering::Less)) {
        return left_out;
    }
    let before = batch.len();
    sort_by_key::<DB, R>(batch);
    let mut kept: Vec<Indexed<'_, R>> = Vec::with_capacity(before);
    for row in batch.drain(..) {
        match kept.last_mut() {
            Some(other) if other.1.key_cmp(row.1) == Some(Ordering::Equal) => {
                if keep == Duplicates::KeepLast {
                    left_out.push((other.0, row.0));
                    *other = row;
                } else {
                    left_out.push((row.0, other.0));
                }
            }
            _ => kept.push(row),
        }
    }
    kept.sort_unstable_by_key(|(index, _)| *index);
    *batch = kept;
    left_out
}

/// Sorts by key, rows of one key in the order of the input, rows without a key last; returns
/// whether the order changed.
///
/// Transactions that lock the same keys in the same order wait for each other, where otherwise
/// each could hold what the other needs.
pub(crate) fn sort_by_key<DB: Database, R: BulkValues<DB>>(batch: &mut [Indexed<'_, R>]) -> bool {
    let order = |a: &Indexed<'_, R>, b: &Indexed<'_, R>| {
        let has_key = |row: &R| row.key_cmp(row).is_some();
        a.1.key_cmp(b.1)
            .unwrap_or_else(|| has_key(b.1).cmp(&has_key(a.1)))
    };
    if batch.is_sorted_by(|a, b| order(a, b) != Ordering::Greater) {
        return false;
    }
    batch.sort_by(order);
    true
}
