use std::ops::Range;

/// Which numbers of rows a statement takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The most rows of one statement; at least 1.
    pub(crate) max_rows: usize,
    /// Only powers of two, where each number of rows is a statement text of its own: it bounds
    /// what a connection's statement cache holds.
    pub(crate) powers: bool,
    /// A number of rows that may have a text of its own; 0 for none. See
    /// [`Sizes`](crate::sizes::Sizes).
    pub(crate) exact: usize,
}

impl Shape {
    pub(crate) fn fit(self, rows: usize) -> usize {
        if rows == self.exact && rows > 0 {
            return rows;
        }
        let rows = rows.clamp(1, self.max_rows.max(1));
        if self.powers { floor_power(rows) } else { rows }
    }
}

fn floor_power(n: usize) -> usize {
    n.checked_ilog2().map_or(1, |log| 1 << log)
}

/// Cuts a batch into the ranges to try, in order, and closes in on the rows that are refused.
///
/// A refused range is halved until single rows remain. What is left of a range whose first half
/// went in must hold the bad row, so it is halved again without a try. Where many rows are bad,
/// halving large ranges only finds out what is known, so the ranges shrink to the size that would
/// go in about every second time, down to one row.
#[derive(Debug)]
pub(crate) struct Pieces {
    shape: Shape,
    stack: Vec<Piece>,
    current: Piece,
    decided: usize,
    refused: usize,
    failed: usize,
}

#[derive(Debug, Clone, Default)]
struct Piece {
    rows: Range<usize>,
    /// The range holds a bad row if no further row failed since this count of failures.
    bad_at: Option<usize>,
}

impl Pieces {
    /// `bad`: a range that is known to hold a bad row, from an attempt before.
    pub(crate) fn new(rows: usize, shape: Shape, bad: Option<Range<usize>>) -> Self {
        let bad = bad.unwrap_or(0..0);
        let parts = [
            (bad.end..rows, None),
            (bad.clone(), Some(0)),
            (0..bad.start, None),
        ];
        let parts = parts.into_iter().filter(|(rows, _)| !rows.is_empty());
        Self {
            shape,
            stack: parts.map(|(rows, bad_at)| Piece { rows, bad_at }).collect(),
            current: Piece::default(),
            decided: 0,
            refused: 0,
            failed: 0,
        }
    }

    /// The next range to try; its outcome must be told before the next call.
    pub(crate) fn next(&mut self) -> Option<Range<usize>> {
        let piece = self.stack.pop()?;
        let len = piece.rows.len();
        let bad = piece.bad_at == Some(self.failed);
        let wanted = if bad { len.div_ceil(2) } else { len };
        let take = self.shape.fit(wanted.min(self.likely_clean()));
        let cut = piece.rows.start + take.min(len);
        if cut < piece.rows.end {
            self.stack.push(Piece {
                rows: cut..piece.rows.end,
                bad_at: bad.then_some(self.failed),
            });
        }
        self.current = Piece {
            rows: piece.rows.start..cut,
            bad_at: None,
        };
        Some(self.current.rows.clone())
    }

    /// Only so many rows of the range are tried, from the front; returns what the range is now.
    pub(crate) fn shorten(&mut self, rows: usize) -> Range<usize> {
        let Range { start, end } = self.current.rows;
        let cut = end.min(start + rows.max(1));
        if cut < end {
            self.stack.push(Piece {
                rows: cut..end,
                bad_at: None,
            });
            self.current.rows = start..cut;
        }
        self.current.rows.clone()
    }

    /// The range went in.
    pub(crate) fn went_in(&mut self) {
        self.decided += self.current.rows.len();
    }

    /// The range was refused, and holds more than one row.
    pub(crate) fn split(&mut self) {
        self.stack.push(Piece {
            rows: self.current.rows.clone(),
            bad_at: Some(self.failed),
        });
    }

    /// The range, a single row, was refused.
    pub(crate) fn refused(&mut self) {
        self.decided += 1;
        self.refused += 1;
        self.failed += 1;
    }

    /// The row `offset` of the range is bad by itself, before anything was sent: the rows around
    /// it remain to be tried.
    pub(crate) fn bad_in_itself(&mut self, offset: usize) {
        let Range { start, end } = self.current.rows;
        let bad = start + offset;
        self.failed += 1;
        self.decided += 1;
        for rows in [bad + 1..end, start..bad] {
            if !rows.is_empty() {
                self.stack.push(Piece { rows, bad_at: None });
            }
        }
    }

    /// The range that goes in about every second time: ln 2 / (share of bad rows).
    fn likely_clean(&self) -> usize {
        if self.refused < 2 {
            return usize::MAX;
        }
        floor_power(self.decided * 7 / 10 / self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Plays a database that refuses each range with a row of `bad`; returns the rows found bad
    /// and the ranges tried.
    fn play(rows: usize, bad: &[usize], shape: Shape) -> (Vec<usize>, Vec<Range<usize>>) {
        play_at_most(rows, bad, shape, usize::MAX)
    }

    /// The same where a statement holds at most `fit` rows.
    fn play_at_most(
        rows: usize,
        bad: &[usize],
        shape: Shape,
        fit: usize,
    ) -> (Vec<usize>, Vec<Range<usize>>) {
        let mut pieces = Pieces::new(rows, shape, None);
        let (mut found, mut tried, mut next) = (Vec::new(), Vec::new(), 0);
        while let Some(range) = pieces.next() {
            assert_eq!(range.start, next, "rows are tried in order");
            assert!(range.len() <= shape.max_rows);
            assert!(!shape.powers || range.len().is_power_of_two());
            let range = pieces.shorten(fit.min(range.len()));
            tried.push(range.clone());
            if !bad.iter().any(|row| range.contains(row)) {
                next = range.end;
                pieces.went_in();
            } else if range.len() == 1 {
                found.push(range.start);
                next = range.end;
                pieces.refused();
            } else {
                pieces.split();
            }
        }
        assert_eq!(next, rows, "every row is decided");
        (found, tried)
    }

    const POWERS: Shape = Shape {
        max_rows: 256,
        powers: true,
        exact: 0,
    };

    #[test]
    fn a_clean_batch_is_full_ranges_and_a_tail() {
        let (_, tried) = play(1000, &[], POWERS);
        let sizes: Vec<_> = tried.iter().map(ExactSizeIterator::len).collect();
        assert_eq!(sizes, [256, 256, 256, 128, 64, 32, 8]);
        let any = Shape {
            max_rows: 600,
            powers: false,
            exact: 0,
        };
        assert_eq!(play(1000, &[], any).1, [0..600, 600..1000]);
    }

    #[test]
    fn one_bad_row_costs_a_logarithm_of_tries() {
        let (found, tried) = play(1024, &[700], POWERS);
        assert_eq!(found, [700]);
        assert!(tried.len() <= 4 + 2 * 8, "{} tries", tried.len());
    }

    #[test]
    fn many_bad_rows_cost_little_more_than_row_by_row() {
        let all: Vec<usize> = (0..1000).collect();
        let (found, tried) = play(1000, &all, POWERS);
        assert_eq!(found, all);
        assert!(tried.len() < 1050, "{} tries", tried.len());
        let tenth: Vec<usize> = (0..1000).filter(|row| row % 10 == 3).collect();
        let (found, tried) = play(1000, &tenth, POWERS);
        assert_eq!(found, tenth);
        assert!(tried.len() < 750, "{} tries", tried.len());
    }

    #[test]
    fn rows_around_one_that_is_bad_in_itself_are_tried() {
        let mut pieces = Pieces::new(8, POWERS, None);
        assert_eq!(pieces.next(), Some(0..8));
        pieces.bad_in_itself(3);
        let mut tried = Vec::new();
        while let Some(range) = pieces.next() {
            tried.push(range);
            pieces.went_in();
        }
        assert_eq!(tried, [0..2, 2..3, 4..8]);
    }

    #[test]
    fn a_range_that_is_shortened_goes_on_where_it_was_cut() {
        let mut pieces = Pieces::new(12, POWERS, Some(0..8));
        assert_eq!(pieces.next(), Some(0..4));
        assert_eq!(pieces.shorten(4), 0..4);
        assert_eq!(pieces.shorten(3), 0..3);
        pieces.went_in();
        assert_eq!(pieces.next(), Some(3..4));
        pieces.refused();
        assert_eq!(pieces.next(), Some(4..8));
        assert_eq!(pieces.shorten(0), 4..5);
        pieces.split();
        assert_eq!(pieces.next(), Some(4..5));
    }

    #[test]
    fn a_range_known_to_be_bad_is_not_tried_whole() {
        let mut pieces = Pieces::new(12, POWERS, Some(4..8));
        assert_eq!(pieces.next(), Some(0..4));
        pieces.went_in();
        assert_eq!(pieces.next(), Some(4..6));
        pieces.went_in();
        assert_eq!(pieces.next(), Some(6..7));
        pieces.went_in();
        assert_eq!(pieces.next(), Some(7..8));
        pieces.refused();
        assert_eq!(pieces.next(), Some(8..12));
    }

    proptest! {
        #[test]
        fn exactly_the_bad_rows_are_found(
            rows in 0_usize..700,
            bad in proptest::collection::btree_set(0_usize..700, 0..80),
            max_rows in 1_usize..300,
            powers: bool,
            fit in 1_usize..300,
        ) {
            let bad: Vec<usize> = bad.into_iter().filter(|row| *row < rows).collect();
            let (found, _) = play_at_most(rows, &bad, Shape { max_rows, powers, exact: 0 }, fit);
            prop_assert_eq!(found, bad);
        }
    }
}
