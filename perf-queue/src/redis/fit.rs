use std::collections::HashMap;

use redis::{ErrorKind, RedisError, cmd};

use super::BACKEND;
use super::connection::Connection;
use super::error::failed;
use super::keys::Keys;
use crate::BackendError;

/// What a server must be like to keep jobs.
const ASKED: [&str; 4] = ["maxmemory", "maxmemory-policy", "appendonly", "save"];

/// Checks that the server keeps jobs until they are done. Where its settings must not be read, as
/// hosts of Redis have it, what it tells of itself has to do.
pub(super) async fn check(
    server: &Connection,
    data_loss_allowed: bool,
) -> Result<(), BackendError> {
    version(server).await?;
    let mut command = cmd("CONFIG");
    command.arg("GET").arg(&ASKED);
    let mut settings = match server.query::<HashMap<String, String>>(&command).await {
        Ok(settings) => settings,
        Err(error) if is_forbidden(&error) => HashMap::new(),
        Err(error) => return Err(failed(error)),
    };
    if settings.is_empty() {
        settings = told(server).await?;
    }
    let (eviction, persistence) = (eviction(&settings), persistence(&settings));
    if eviction.is_none() || persistence.is_none() {
        tracing::warn!(
            "Redis does not let all of its settings be read: see to it that maxmemory-policy is \
             noeviction and appendonly is yes, or jobs may get lost"
        );
    }
    for found in [eviction, persistence].into_iter().flatten() {
        match found {
            Fit::Keeps => {}
            Fit::Forgets(reason) => tracing::warn!("Redis may lose jobs: {reason}"),
            Fit::Loses(reason) if data_loss_allowed => {
                tracing::warn!("Redis may lose jobs: {reason}");
            }
            Fit::Loses(reason) => {
                return Err(unfit(format!(
                    "{reason}, or accept the loss of jobs by allow_data_loss()"
                )));
            }
        }
    }
    Ok(())
}

/// How a queue is kept: what `lua/` and `wire.rs` make of each other's bytes.
const FORMAT: &str = "1";

/// Checks that the queue, if it is there, is kept in this version's format: another one would destroy its
/// jobs.
pub(super) async fn format(server: &Connection, keys: &Keys) -> Result<(), BackendError> {
    let mut set = cmd("HSETNX");
    set.arg(keys.state()).arg("format").arg(FORMAT);
    let new: bool = server.query(&set).await.map_err(failed)?;
    if new {
        return Ok(());
    }
    let mut get = cmd("HGET");
    get.arg(keys.state()).arg("format");
    let found: String = server.query(&get).await.map_err(failed)?;
    if found == FORMAT {
        return Ok(());
    }
    Err(unfit(format!(
        "the queue is kept in format {found}, and this version of perf-queue has format {FORMAT}: let \
         the version that made it work it off, or give this one another prefix()"
    )))
}

/// How well a server keeps jobs.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    Keeps,
    /// Up to the last moments before a crash.
    Forgets(&'static str),
    /// Without a crash, or all of them.
    Loses(String),
}

/// The settings as far as `INFO` has them: all but the save points.
async fn told(server: &Connection) -> Result<HashMap<String, String>, BackendError> {
    let mut settings = HashMap::new();
    for section in ["memory", "persistence"] {
        for (name, value) in info(server, section).await? {
            match name.as_str() {
                "maxmemory" => settings.insert("maxmemory".to_owned(), value),
                "maxmemory_policy" => settings.insert("maxmemory-policy".to_owned(), value),
                "aof_enabled" if value == "1" => {
                    settings.insert("appendonly".to_owned(), "yes".to_owned())
                }
                _ => None,
            };
        }
    }
    Ok(settings)
}

/// A section of what the server tells of itself, empty where that is forbidden.
async fn info(server: &Connection, section: &str) -> Result<HashMap<String, String>, BackendError> {
    let mut command = cmd("INFO");
    command.arg(section);
    let info: String = match server.query(&command).await {
        Ok(info) => info,
        Err(error) if is_forbidden(&error) => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let pairs = info.lines().filter_map(|line| line.trim().split_once(':'));
    Ok(pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect())
}

async fn version(server: &Connection) -> Result<(), BackendError> {
    let info = info(server, "server").await?;
    match info.get("redis_version") {
        Some(version) if major(version).is_some_and(|major| major < 7) => Err(unfit(format!(
            "it is version {version}: the scripts need 7 or newer"
        ))),
        _ => Ok(()),
    }
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// `None` where it is not known.
fn eviction(settings: &HashMap<String, String>) -> Option<Fit> {
    let memory = settings.get("maxmemory")?;
    let policy = settings.get("maxmemory-policy")?;
    if memory == "0" || policy == "noeviction" {
        return Some(Fit::Keeps);
    }
    Some(Fit::Loses(format!(
        "with maxmemory {memory} and maxmemory-policy {policy} it drops jobs when its memory is \
         full: set maxmemory-policy noeviction"
    )))
}

/// `None` where it is not known.
fn persistence(settings: &HashMap<String, String>) -> Option<Fit> {
    if settings.get("appendonly")? == "yes" {
        return Some(Fit::Keeps);
    }
    if settings.get("save")?.trim().is_empty() {
        return Some(Fit::Loses(
            "with appendonly no and no save points it forgets all jobs when it restarts: set \
             appendonly yes"
                .to_owned(),
        ));
    }
    Some(Fit::Forgets(
        "with save points alone it forgets, in a crash, what has come and ended since the last of \
         them, some minutes: set appendonly yes",
    ))
}

/// Refused for lack of a permission, or since the host renamed the command.
fn is_forbidden(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
        && !failed(error.clone()).is_retryable()
}

fn unfit(reason: String) -> BackendError {
    BackendError::Unfit {
        backend: BACKEND,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(values: [&str; 4]) -> HashMap<String, String> {
        let values = values.map(str::to_owned);
        ASKED.map(str::to_owned).into_iter().zip(values).collect()
    }

    fn loses(fit: Option<Fit>) -> bool {
        matches!(fit, Some(Fit::Loses(_)))
    }

    #[test]
    fn a_policy_that_evicts_matters_only_with_a_bound_on_memory() {
        let of = |memory, policy| eviction(&settings([memory, policy, "", ""]));
        assert_eq!(of("0", "allkeys-lru"), Some(Fit::Keeps));
        assert_eq!(of("1000", "noeviction"), Some(Fit::Keeps));
        // Holds of keys, names of unique jobs and slots expire, so this one would evict them.
        assert!(loses(of("1000", "volatile-ttl")));
        assert_eq!(eviction(&HashMap::new()), None);
    }

    #[test]
    fn an_append_only_file_will_do_and_save_points_are_better_than_nothing() {
        let of = |appends, saves| persistence(&settings(["0", "", appends, saves]));
        assert_eq!(of("yes", ""), Some(Fit::Keeps));
        assert!(matches!(of("no", "3600 1"), Some(Fit::Forgets(_))));
        assert!(loses(of("no", "")));
        assert_eq!(persistence(&HashMap::new()), None);
    }

    #[test]
    fn the_version_is_compared_by_its_first_number() {
        assert_eq!(major("7.0.15"), Some(7));
        assert_eq!(major("10.1"), Some(10));
        assert_eq!(major("unstable"), None);
    }
}
