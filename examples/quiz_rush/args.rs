use std::fmt;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::figure::counted;

/// A quiz service before and after the perf crates, under the same rush of users.
#[derive(Debug, Parser)]
#[command(name = "quiz_rush", args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// Users who complete the quiz at the same time.
    #[arg(long, default_value_t = Size::FULL.users, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) users: u32,
    /// Answers a user gives.
    #[arg(long, default_value_t = Size::FULL.answers, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) answers: u32,
    /// A small rush of a few seconds: 10 users with 200 answers each.
    #[arg(long, conflicts_with_all = ["users", "answers"])]
    pub(crate) quick: bool,
    /// Run one of the two builds alone.
    #[arg(long)]
    pub(crate) only: Option<Build>,
    /// Exit with 1 when an expectation of the full rush is missed.
    #[arg(long, conflicts_with_all = ["quick", "only", "users", "answers"])]
    pub(crate) expect: bool,
    /// Where the databases, report.html and report.json go.
    #[arg(long, default_value = "target/quiz_rush")]
    pub(crate) out: PathBuf,
}

impl Args {
    /// The size of the rush.
    pub(crate) fn size(&self) -> Size {
        if self.quick {
            Size::QUICK
        } else {
            Size {
                users: self.users,
                answers: self.answers,
            }
        }
    }

    /// The builds to run, in order.
    pub(crate) fn builds(&self) -> Vec<Build> {
        self.only
            .map_or_else(|| vec![Build::Before, Build::After], |only| vec![only])
    }
}

/// How many users rush, and how much each of them brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::Args)]
pub(crate) struct Size {
    /// Users who complete at the same time.
    #[arg(long)]
    pub(crate) users: u32,
    /// Answers a user gives.
    #[arg(long)]
    pub(crate) answers: u32,
}

impl Size {
    /// The rush that the expectations are about.
    pub(crate) const FULL: Self = Self {
        users: 100,
        answers: 1_000,
    };
    /// The rush of `--quick`.
    pub(crate) const QUICK: Self = Self {
        users: 10,
        answers: 200,
    };
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let complete = if self.users == 1 {
            "completes"
        } else {
            "complete"
        };
        write!(
            f,
            "{} {complete} a quiz of {}",
            counted(self.users, "user"),
            counted(self.answers, "answer")
        )
    }
}

/// What a child process plays.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The quiz service (started by quiz_rush itself).
    #[command(hide = true)]
    Service(ServiceArgs),
    /// The users and the messenger (started by quiz_rush itself).
    #[command(hide = true)]
    Crowd(CrowdArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServiceArgs {
    #[arg(long)]
    pub(crate) build: Build,
    #[arg(long)]
    pub(crate) db: PathBuf,
    /// Address of the messenger, `http://host:port`.
    #[arg(long)]
    pub(crate) messenger: String,
    #[command(flatten)]
    pub(crate) size: Size,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CrowdArgs {
    #[command(flatten)]
    pub(crate) size: Size,
}

/// The two builds of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Build {
    /// What people write by hand.
    Before,
    /// The five perf crates.
    After,
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_arguments_are_refused_with_the_range() {
        let error = Args::try_parse_from(["quiz_rush", "--users", "0"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("1..=2000"), "{error}");
        let error = Args::try_parse_from(["quiz_rush", "--only", "during"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("before, after"), "{error}");
    }

    #[test]
    fn quick_excludes_a_size_of_ones_own() {
        assert!(Args::try_parse_from(["quiz_rush", "--quick", "--users", "5"]).is_err());
        let quick = Args::try_parse_from(["quiz_rush", "--quick"]).unwrap();
        assert_eq!(quick.size(), Size::QUICK);
    }

    #[test]
    fn a_size_reads_well() {
        assert_eq!(
            Size::FULL.to_string(),
            "100 users complete a quiz of 1,000 answers"
        );
        let one = Size {
            users: 1,
            answers: 1,
        };
        assert_eq!(one.to_string(), "1 user completes a quiz of 1 answer");
    }

    #[test]
    fn both_builds_run_unless_one_is_asked_for() {
        let args = Args::try_parse_from(["quiz_rush"]).unwrap();
        assert_eq!(args.builds(), [Build::Before, Build::After]);
        let args = Args::try_parse_from(["quiz_rush", "--only", "after"]).unwrap();
        assert_eq!(args.builds(), [Build::After]);
    }
}
