use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use crate::JobId;
use crate::machine::Time;

/// The unique names that were given lately, and until when they count.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: HashMap<Arc<str>, (JobId, Time)>,
    /// Every name that was given, by when it ends: once more where it was given again.
    ends: BinaryHeap<Reverse<(Time, Arc<str>)>>,
}

impl Names {
    /// Whose name it is, if it is somebody's.
    pub(crate) fn other(&self, name: &str, now: Time) -> Option<JobId> {
        let (other, ends) = self.taken.get(name)?;
        (*ends > now).then_some(*other)
    }

    /// Gives the name, which is nobody's, to a job.
    pub(crate) fn give(&mut self, name: String, id: JobId, until: Time) {
        let name: Arc<str> = name.into();
        self.ends.push(Reverse((until, Arc::clone(&name))));
        self.taken.insert(name, (id, until));
    }

    /// Drops the names whose time is over; looks at no others.
    pub(crate) fn tidy(&mut self, now: Time) {
        while let Some(Reverse((until, _))) = self.ends.peek()
            && *until <= now
        {
            let Some(Reverse((_, name))) = self.ends.pop() else {
                break;
            };
            if self
                .taken
                .get(&name)
                .is_some_and(|(_, until)| *until <= now)
            {
                self.taken.remove(&name);
            }
        }
        if self.taken.is_empty() && self.taken.capacity() > 1_024 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn id(number: u64) -> JobId {
        JobId::new(0, number)
    }

    #[test]
    fn a_name_that_was_given_again_outlives_its_first_time() {
        let mut names = Names::default();
        let claim = |names: &mut Names, number, now, until| match names.other("n", at(now)) {
            Some(other) => Err(other),
            None => {
                names.give("n".to_owned(), id(number), at(until));
                Ok(())
            }
        };
        assert_eq!(claim(&mut names, 1, 0, 2), Ok(()));
        assert_eq!(claim(&mut names, 2, 1, 9), Err(id(1)));
        assert_eq!(claim(&mut names, 2, 2, 9), Ok(()));
        names.tidy(at(3));
        assert_eq!(claim(&mut names, 3, 4, 9), Err(id(2)));
        names.tidy(at(9));
        assert!(names.taken.is_empty() && names.ends.is_empty());
    }

    #[test]
    fn to_tidy_up_costs_nothing_for_names_whose_time_is_not_over() {
        let mut names = Names::default();
        for number in 0..100_000 {
            names.give(number.to_string(), id(number), at(9));
        }
        // With a look at each name, this would take minutes.
        for _ in 0..100_000 {
            names.tidy(at(1));
        }
        assert_eq!(names.taken.len(), 100_000);
    }
}
