//! Runs the builds one after another, shows how far they are, checks and reports the result.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::args::{Args, Build, Size};
use crate::child::Child;
use crate::protocol::{
    CrowdCommand, CrowdEvent, CrowdFigures, ServiceCommand, ServiceEvent, ServiceFigures,
};
use crate::report::{self, Bar, Measured};
use crate::verify;

/// A build's rush, as it was seen from outside and inside.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) build: Build,
    /// Seconds that each completion took with nobody else there.
    pub(crate) quiet: Vec<f64>,
    pub(crate) service: ServiceFigures,
    pub(crate) crowd: CrowdFigures,
    /// The service's own `/monitoring/stats` at the end; nothing where it has none.
    pub(crate) monitoring: Option<serde_json::Value>,
    /// What the check of the result found wrong.
    pub(crate) findings: Vec<String>,
}

/// Runs what was asked for; `false` if the result is wrong, or an expectation counts and is missed.
pub(crate) async fn run(args: &Args) -> Result<bool> {
    let size = args.size();
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("create the directory {}", args.out.display()))?;
    println!(
        "{} users complete a quiz of {} answers at the same time, and each is sent 5 messages.",
        size.users, size.answers
    );
    let mut outcomes = Vec::new();
    for build in args.builds() {
        outcomes.push(rush(build, size, &args.out).await?);
    }
    let measured: Vec<Measured> = outcomes.iter().map(|o| Measured::of(o, size)).collect();
    let expectations = if args.quick {
        Vec::new()
    } else {
        report::expectations(&measured, size)
    };
    let paths = report::write(&args.out, size, &outcomes, &measured, &expectations)?;
    println!("\n{}", report::table(&measured));
    for expectation in &expectations {
        println!("{expectation}");
    }
    for outcome in &outcomes {
        for line in checked(outcome.build, &outcome.findings) {
            println!("{line}");
        }
    }
    println!(
        "written: {}",
        paths.map(|p| p.display().to_string()).join(", ")
    );
    let right = outcomes.iter().all(|o| o.findings.is_empty());
    let missed = args.expect && expectations.iter().any(|e| !e.met);
    Ok(right && !missed)
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
    let CrowdEvent::Quiet(quiet) = crowd.next().await? else {
        bail!("the crowd is out of turn");
    };

    service.tell(&ServiceCommand::Begin).await?;
    let ServiceEvent::Begun = service.next().await? else {
        bail!("the service is out of turn");
    };
    crowd.tell(&CrowdCommand::Rush).await?;
    let figures = loop {
        match crowd.next().await? {
            CrowdEvent::Progress(progress) => bar.show(&progress),
            CrowdEvent::Done(figures) => break *figures,
            CrowdEvent::Ready(_) | CrowdEvent::Quiet(_) => bail!("the crowd is out of turn"),
        }
    };
    let monitoring = monitoring(&address).await;
    service.tell(&ServiceCommand::End).await?;
    let ServiceEvent::Figures(service_figures) = service.next().await? else {
        bail!("the service is out of turn");
    };
    service.end().await?;
    crowd.end().await?;

    bar.say("checking the result");
    let mut findings = verify::database(&db, size).await?;
    findings.extend(verify::messages(&figures.arrivals, size));
    bar.end();
    Ok(Outcome {
        build,
        quiet,
        service: service_figures,
        crowd: figures,
        monitoring,
        findings,
    })
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
    fn a_wrong_result_is_said() {
        let findings = ["user 2: messages arrived as [1, 2]".to_owned()];
        assert_eq!(
            checked(Build::After, &findings),
            ["WRONG: after: user 2: messages arrived as [1, 2]"]
        );
        assert!(checked(Build::Before, &[])[0].starts_with("checked: before"));
    }
}
