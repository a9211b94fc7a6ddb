use std::time::Duration;

/// How long single writes and reads took; said when all is over.
pub(super) struct Times {
    group: &'static str,
    name: &'static str,
    /// The first run warms up.
    warm: bool,
    writes: Vec<Duration>,
    reads: Vec<Duration>,
}

impl Times {
    pub(super) fn new(group: &'static str, name: &'static str) -> Self {
        Self {
            group,
            name,
            warm: false,
            writes: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// What the tasks of a run took, with whether they wrote.
    pub(super) fn note(&mut self, run: Vec<(bool, Vec<Duration>)>) {
        if !std::mem::replace(&mut self.warm, true) {
            return;
        }
        for (writes, took) in run {
            if writes {
                self.writes.extend(took);
            } else {
                self.reads.extend(took);
            }
        }
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        for (what, times) in [("write", &mut self.writes), ("read", &mut self.reads)] {
            times.sort_unstable();
            let at = |permille| times.get(times.len() * permille / 1000).copied();
            if let (Some(half), Some(most), Some(nearly), Some(all)) =
                (at(500), at(990), at(999), times.last())
            {
                eprintln!(
                    "{}: {}: p50 {half:.1?}, p99 {most:.1?}, p99.9 {nearly:.1?}, \
                     longest {all:.1?} a {what}",
                    self.group, self.name
                );
            }
        }
    }
}
