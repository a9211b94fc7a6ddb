//! A page and the total in one statement.

mod query;

pub use query::{PageError, PageQuery};

/// Some of the rows of a query, and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The rows of this page, in the order asked for; none beyond the last page.
    pub items: Vec<T>,
    /// How many rows the query has on all pages, at the same moment.
    pub total: u64,
    /// Which page it is, from 1.
    pub number: u64,
    /// The most rows on a page.
    pub size: u32,
}

impl<T> Page<T> {
    /// How many pages there are; 0 where there are no rows.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.total.div_ceil(u64::from(self.size.max(1)))
    }

    /// Whether there are rows after this page.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.number < self.pages()
    }

    /// The same page of other items, each made from one of these.
    #[must_use]
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(convert).collect(),
            total: self.total,
            number: self.number,
            size: self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(total: u64, number: u64, size: u32) -> Page<u8> {
        Page {
            items: Vec::new(),
            total,
            number,
            size,
        }
    }

    #[test]
    fn the_last_page_may_be_short_and_has_no_next() {
        assert_eq!(page(0, 1, 20).pages(), 0);
        assert_eq!(page(20, 1, 20).pages(), 1);
        assert_eq!(page(21, 1, 20).pages(), 2);
        assert!(page(21, 1, 20).has_next());
        assert!(!page(21, 2, 20).has_next());
        assert!(!page(21, 7, 20).has_next());
        assert!(!page(0, 1, 20).has_next());
        assert_eq!(page(u64::MAX, 1, 1).pages(), u64::MAX);
    }

    #[test]
    fn a_mapped_page_is_the_same_page() {
        let mut bytes = page(2, 1, 20);
        bytes.items = vec![1, 2];
        let texts = bytes.map(|byte| byte.to_string());
        assert_eq!(texts.items, ["1", "2"]);
        assert_eq!((texts.total, texts.number, texts.size), (2, 1, 20));
    }
}
