use std::fmt;

use crate::Status;

/// Above which values a pool warns.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Thresholds {
    pub(crate) in_use: Option<u32>,
    pub(crate) overflow: Option<u32>,
    pub(crate) pending: Option<u32>,
}

/// Which thresholds are passed, so that each passing is told once.
#[derive(Debug, Default)]
pub(crate) struct Passed([bool; 3]);

/// A threshold was passed, or is no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crossing {
    pub(crate) what: &'static str,
    pub(crate) value: u32,
    pub(crate) threshold: u32,
    pub(crate) above: bool,
}

impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            value,
            threshold,
            above,
        } = self;
        let back = if *above { "above" } else { "back at or below" };
        write!(f, "{value} {what}, {back} the threshold of {threshold}")
    }
}

impl Thresholds {
    /// What changed since the last call with this `passed`.
    pub(crate) fn look(self, status: &Status, passed: &mut Passed) -> Vec<Crossing> {
        let all = [
            ("connections in use", self.in_use, status.in_use),
            ("connections above the base", self.overflow, status.overflow),
            ("callers waiting", self.pending, status.pending),
        ];
        let mut crossings = Vec::new();
        for ((what, threshold, value), was_above) in all.into_iter().zip(&mut passed.0) {
            let Some(threshold) = threshold else { continue };
            let above = value > threshold;
            if above != *was_above {
                *was_above = above;
                crossings.push(Crossing {
                    what,
                    value,
                    threshold,
                    above,
                });
            }
        }
        crossings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_passing_is_told_once_in_both_directions() {
        let thresholds = Thresholds {
            in_use: Some(2),
            ..Thresholds::default()
        };
        let mut passed = Passed::default();
        let mut look = |in_use| {
            let status = Status {
                in_use,
                ..Status::default()
            };
            let crossings = thresholds.look(&status, &mut passed);
            crossings
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert!(look(2).is_empty());
        assert_eq!(look(3), ["3 connections in use, above the threshold of 2"]);
        assert!(look(5).is_empty());
        assert_eq!(
            look(1),
            ["1 connections in use, back at or below the threshold of 2"]
        );
        assert!(look(0).is_empty());
    }
}
