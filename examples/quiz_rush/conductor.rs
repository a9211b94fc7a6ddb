//! Runs the builds one after another, shows how far they are, checks and reports the result.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::api::MESSAGES;
use crate::args::{Args, Build, Size};
use crate::child::Child;
use crate::protocol::{
    Arrival, CrowdCommand, CrowdEvent, CrowdFigures, ServiceCommand, ServiceEvent, ServiceFigures,
};
use crate::report::{self, Bar, Expectation, Measured};
use crate::verify;

/// A message that a service sends twice arrives within this time of the last one.
const LATE: Duration = Duration::from_millis(500);

/// A build's rush, as it was seen from outside and inside.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) build: Build,
    /// Seconds that each completion took with nobody else there.
    pub(crate) quiet: Vec<f64>,
    pub(crate) service: ServiceFigures,
    pub(crate) crowd: CrowdFigures,
    /// Every message that the messenger accepted, in order of arrival.
    pub(crate) arrivals: Vec<Arrival>,
    /// Answers in the database.
    pub(crate) rows: usize,
    /// The service's own `/monitoring/stats` at the end; nothing where it has none.
    pub(crate) monitoring: Option<serde_json::Value>,
    /// What the check of the result found wrong.
    pub(crate) findings: Vec<String>,
}

/// Runs what was asked for; `false` if the result is wrong, or an expectation counts and is missed.
pub(crate) async fn run(args: &Args) -> Result<bool> {
    let size = args.size();
    let _lock = claim(&args.out)?;
    say(format!(
        "{size} at the same time, and each is sent {MESSAGES} messages."
    ));
    let mut outcomes = Vec::new();
    for build in args.builds() {
        outcomes.push(rush(build, size, &args.out).await?);
    }
    let measured: Vec<Measured> = outcomes.iter().map(Measured::of).collect();
    let expectations = report::expectations(&measured, size);
    say(format!("\n{}", report::table(&measured)));
    for expectation in &expectations {
        say(expectation);
    }
    for outcome in &outcomes {
        for line in checked(outcome.build, &outcome.findings) {
            say(line);
        }
    }
    // Last, so that a full disk does not cost what was measured.
    let paths = report::write(&args.out, size, &outcomes, &measured, &expectations)?;
    let paths = paths.map(|p| p.display().to_string()).join(", ");
    say(format!("written: {paths}"));
    let findings = outcomes.iter().flat_map(|o| &o.findings);
    Ok(passes(findings.count(), &expectations, args.expect))
}

/// Whether the program ends well: the result is right and, where they count, so are the
/// expectations.
fn passes(findings: usize, expectations: &[Expectation], they_count: bool) -> bool {
    findings == 0 && (!they_count || expectations.iter().all(|e| e.met))
}

/// Prints a line. Where nobody reads standard output any more, the reports and the exit code tell
/// the same.
fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Makes the directory and keeps other rushes out of it until the lock is dropped; the operating
/// system drops it for a process that is killed.
fn claim(out: &Path) -> Result<File> {
    let claimed = std::fs::create_dir_all(out).and_then(|()| File::create(out.join(".lock")));
    let lock = claimed.with_context(|| {
        let out = out.display();
        format!("cannot write to the directory {out}; choose another one with --out")
    })?;
    // Not every file system has locks; without, there is nobody to be told of.
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        let out = out.display();
        bail!("another quiz_rush is running in {out}; wait for it, or choose another --out");
    }
    Ok(lock)
}

/// What the check of a build's result says.
fn checked(build: Build, findings: &[String]) -> Vec<String> {
    if findings.is_empty() {
        let right =
            "every answer is saved exactly once, every message arrived exactly once, in order";
        return vec![format!("checked: {build}: {right}")];
    }
    findings
        .iter()
        .map(|finding| format!("WRONG: {build}: {finding}"))
        .collect()
}

async fn rush(build: Build, size: Size, out: &Path) -> Result<Outcome> {
    let db = out.join(format!("{build}.db"));
    remove_database(&db)?;
    let bar = Bar::new(build, size);

    let mut crowd = Child::start("crowd", crowd_args(size))?;
    let CrowdEvent::Ready(messenger) = crowd.next().await? else {
        bail!("the crowd is out of turn");
    };
    let mut service = Child::start("service", service_args(build, &db, &messenger, size))?;
    let ServiceEvent::Ready(address) = service.next().await? else {
        bail!("the service is out of turn");
    };

    bar.say("one user alone");
    crowd.tell(&CrowdCommand::Quiet(address.clone())).await?;
    let CrowdEvent::Quiet(quiet) = heard(&mut crowd, &mut service).await? else {
        bail!("the crowd is out of turn");
    };

    service.tell(&ServiceCommand::Begin).await?;
    let ServiceEvent::Begun = service.next().await? else {
        bail!("the service is out of turn");
    };
    crowd.tell(&CrowdCommand::Rush).await?;
    let figures = loop {
        match heard(&mut crowd, &mut service).await? {
            CrowdEvent::Progress(progress) => bar.show(&progress),
            CrowdEvent::Done(figures) => break *figures,
            _ => bail!("the crowd is out of turn"),
        }
    };
    let monitoring = monitoring(&address).await;
    service.tell(&ServiceCommand::End).await?;
    let ServiceEvent::Figures(service_figures) = service.next().await? else {
        bail!("the service is out of turn");
    };

    bar.say("checking the result");
    tokio::time::sleep(LATE).await;
    crowd.tell(&CrowdCommand::Arrivals).await?;
    let CrowdEvent::Arrivals(arrivals) = heard(&mut crowd, &mut service).await? else {
        bail!("the crowd is out of turn");
    };
    service.end().await?;
    crowd.end().await?;
    let saved = verify::saved(&db).await?;
    let rows = saved.len();
    let mut findings = verify::answers(saved, size);
    findings.extend(verify::messages(&arrivals, size));
    bar.end();
    Ok(Outcome {
        build,
        quiet,
        service: service_figures,
        crowd: figures,
        arrivals,
        rows,
        monitoring,
        findings,
    })
}

/// The next thing the crowd tells, unless the service ends, for which the crowd would wait.
async fn heard(crowd: &mut Child, service: &mut Child) -> Result<CrowdEvent> {
    tokio::select! {
        biased;
        event = service.next::<ServiceEvent>() => {
            bail!("the service is out of turn: {:?}", event?)
        }
        event = crowd.next() => event,
    }
}

/// The service's `/monitoring/stats`, which the build before does not have.
async fn monitoring(service: &str) -> Option<serde_json::Value> {
    let response = reqwest::get(format!("{service}/monitoring/stats"))
        .await
        .ok()?;
    response.error_for_status().ok()?.json().await.ok()
}

fn crowd_args(size: Size) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["crowd".into()];
    args.extend(size_args(size));
    args
}

fn size_args(Size { users, answers }: Size) -> [OsString; 4] {
    [
        "--users".into(),
        users.to_string().into(),
        "--answers".into(),
        answers.to_string().into(),
    ]
}

fn service_args(build: Build, db: &Path, messenger: &str, size: Size) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["service".into()];
    args.extend(["--build".into(), build.to_string().into()]);
    args.extend(["--db".into(), db.into()]);
    args.extend(["--messenger".into(), messenger.into()]);
    args.extend(size_args(size));
    args
}

/// Removes a database of an earlier run, with its side files.
fn remove_database(db: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = db.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_result_never_passes_and_a_missed_expectation_only_where_it_does_not_count() {
        let expectation = |met| Expectation {
            expected: "no message refused".to_owned(),
            measured: "1".to_owned(),
            met,
        };
        assert!(!passes(1, &[], false));
        assert!(!passes(1, &[expectation(true)], true));
        assert!(passes(0, &[expectation(false)], false));
        assert!(!passes(0, &[expectation(true), expectation(false)], true));
        assert!(passes(0, &[expectation(true)], true));
    }

    #[test]
    fn a_wrong_result_is_said() {
        let findings = ["user 2: messages arrived as [1, 2]".to_owned()];
        assert_eq!(
            checked(Build::After, &findings),
            ["WRONG: after: user 2: messages arrived as [1, 2]"]
        );
        assert!(checked(Build::Before, &[])[0].starts_with("checked: before"));
    }
}
