use std::cmp::Ordering;

use super::jobs::{Jobs, NIL};
use super::{Ticket, Time};

/// The jobs of one key in the order in which they will run: the highest rank first, and those of
/// the same rank in the order of their coming. The links are in the jobs. To add a job takes no
/// walk along the list, only a search in the ranks in use.
#[derive(Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
    /// Jobs, those of batches one by one.
    len: u32,
    /// The last job of each rank in use but the lowest, whose last is the tail. Few keys have any.
    above: Option<Box<Above>>,
}

/// Ascending by rank.
#[derive(Debug, Default)]
struct Above(Vec<End>);

#[derive(Debug)]
struct End {
    rank: i16,
    last: u32,
}

/// Where a job goes among those of its rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    First,
    Last,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        len: 0,
        above: None,
    };

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn head(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    fn add_end(&mut self, at: usize, rank: i16, last: u32) {
        let above = self.above.get_or_insert_default();
        above.0.insert(at, End { rank, last });
    }

    /// Notes a job of a rank above the lowest; returns the job after which it goes, if any.
    fn place_above(&mut self, id: u32, rank: i16, side: Side) -> Option<u32> {
        let ends = &mut self.above.get_or_insert_default().0;
        let at = ends.partition_point(|end| end.rank < rank);
        match ends.get_mut(at) {
            Some(end) if end.rank == rank && side == Side::Last => {
                Some(std::mem::replace(&mut end.last, id))
            }
            Some(end) if end.rank == rank => ends.get(at + 1).map(|higher| higher.last),
            higher => {
                let after = higher.map(|end| end.last);
                ends.insert(at, End { rank, last: id });
                after
            }
        }
    }
}

impl<T> Jobs<T> {
    /// Adds a job to its key's list.
    #[inline]
    pub(super) fn add(&mut self, list: &mut List, id: u32, side: Side) {
        list.len += self.get(id).count;
        if list.tail == NIL {
            list.head = id;
            list.tail = id;
            return;
        }
        let lowest = self.get(list.tail).rank();
        let rank = self.get(id).rank();
        match rank.cmp(&lowest) {
            Ordering::Equal if side == Side::Last => {
                self.get_mut(list.tail).next = id;
                list.tail = id;
            }
            Ordering::Equal => {
                let ends = list.above.as_ref().and_then(|above| above.0.first());
                let after = ends.map(|end| end.last);
                self.link(list, id, after);
            }
            Ordering::Less => {
                list.add_end(0, lowest, list.tail);
                self.get_mut(list.tail).next = id;
                list.tail = id;
            }
            Ordering::Greater => {
                let after = list.place_above(id, rank, side);
                self.link(list, id, after);
            }
        }
    }

    fn link(&mut self, list: &mut List, id: u32, after: Option<u32>) {
        let slot = match after {
            Some(after) => &mut self.get_mut(after).next,
            None => &mut list.head,
        };
        let next = std::mem::replace(slot, id);
        self.get_mut(id).next = next;
    }

    /// Takes the first job of a key out of the queue: it is granted now. (A call of its own would move the
    /// ticket once more.)
    #[inline(always)]
    pub(super) fn take_front(
        &mut self,
        list: &mut List,
        now: Time,
        to: &mut Option<T>,
    ) -> Option<Ticket> {
        let head = list.head()?;
        let ticket = self.take(head, now, to);
        list.len -= 1;
        if self.get(head).count == 0 {
            list.head = self.get(head).next;
            self.free(head);
            if let Some(above) = &mut list.above {
                above.0.pop_if(|end| end.last == head);
            }
            if list.head == NIL {
                *list = List::EMPTY;
            }
        }
        ticket
    }
}
