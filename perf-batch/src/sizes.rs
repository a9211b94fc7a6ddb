use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many numbers of rows may have a statement text of their own.
const ADMITTED: usize = 16;

/// The numbers of rows that come again and again.
///
/// Where each number of rows is a text of its own, rows go in powers of two, so that the connection's
/// statement cache holds few of them: a batch of 100 is three statements. Batches of one size are
/// common, so a size that came twice in a row gets a text of its own, up to [`ADMITTED`] of them.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    last: AtomicUsize,
    admitted: Mutex<Vec<usize>>,
}

impl Sizes {
    /// Takes note of a batch; whether its size may have a text of its own.
    pub(crate) fn admit(&self, rows: usize) -> bool {
        let again = self.last.swap(rows, Ordering::Relaxed) == rows;
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if admitted.contains(&rows) {
            return true;
        }
        let admit = again && admitted.len() < ADMITTED;
        if admit {
            admitted.push(rows);
        }
        admit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_comes_twice_in_a_row_is_admitted_for_good() {
        let sizes = Sizes::default();
        assert!(!sizes.admit(100));
        assert!(sizes.admit(100));
        assert!(!sizes.admit(7));
        assert!(sizes.admit(100));
    }

    #[test]
    fn only_so_many_sizes_are_admitted() {
        let sizes = Sizes::default();
        let admitted = (1..100).filter(|&n| {
            sizes.admit(n);
            sizes.admit(n)
        });
        assert_eq!(admitted.count(), ADMITTED);
    }
}
