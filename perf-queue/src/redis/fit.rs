use std::collections::HashMap;

use redis::{ErrorKind, RedisError, cmd};

use super::BACKEND;
use super::connection::Connection;
use super::error::failed;
use crate::BackendError;

/// What a server must be like to keep jobs.
const ASKED: [&str; 4] = ["maxmemory", "maxmemory-policy", "appendonly", "save"];

/// Checks that the server keeps jobs until they are done. Where that is forbidden to find out, as
/// hosts of Redis do, there is a warning.
pub(super) async fn check(
    server: &Connection,
    data_loss_allowed: bool,
) -> Result<(), BackendError> {
    version(server).await?;
    let mut command = cmd("CONFIG");
    command.arg("GET").arg(&ASKED);
    let settings = match server.query::<HashMap<String, String>>(&command).await {
        Ok(settings) => settings,
        Err(error) if is_forbidden(&error) => HashMap::new(),
        Err(error) => return Err(failed(error)),
    };
    if settings.is_empty() {
        tracing::warn!(
            "Redis does not let its settings be read: see to it that maxmemory-policy is \
             noeviction and appendonly is yes, or jobs may get lost"
        );
        return Ok(());
    }
    for reason in [eviction(&settings), persistence(&settings)]
        .into_iter()
        .flatten()
    {
        if !data_loss_allowed {
            return Err(unfit(format!(
                "{reason}, or accept the loss of jobs by allow_data_loss()"
            )));
        }
        tracing::warn!("Redis may lose jobs: {reason}");
    }
    Ok(())
}

async fn version(server: &Connection) -> Result<(), BackendError> {
    let mut command = cmd("INFO");
    command.arg("server");
    let info: String = match server.query(&command).await {
        Ok(info) => info,
        Err(error) if is_forbidden(&error) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    match version {
        Some(version) if major(version).is_some_and(|major| major < 7) => Err(unfit(format!(
            "it is version {version}: the scripts need 7 or newer"
        ))),
        _ => Ok(()),
    }
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

fn eviction(settings: &HashMap<String, String>) -> Option<String> {
    let memory = settings.get("maxmemory")?;
    let policy = settings.get("maxmemory-policy")?;
    (memory != "0" && policy != "noeviction").then(|| {
        format!(
            "with maxmemory {memory} and maxmemory-policy {policy} it drops jobs when its memory is \
             full: set maxmemory-policy noeviction"
        )
    })
}

fn persistence(settings: &HashMap<String, String>) -> Option<String> {
    let appends = settings.get("appendonly")? == "yes";
    let saves = settings
        .get("save")
        .is_some_and(|save| !save.trim().is_empty());
    (!appends && !saves).then(|| {
        "with appendonly no and no save points it forgets all jobs when it restarts: set \
         appendonly yes"
            .to_owned()
    })
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

    #[test]
    fn a_policy_that_evicts_matters_only_with_a_bound_on_memory() {
        assert_eq!(eviction(&settings(["0", "allkeys-lru", "", ""])), None);
        assert_eq!(eviction(&settings(["1000", "noeviction", "", ""])), None);
        // Holds of keys, names of unique jobs and slots expire, so this one would evict them.
        assert!(eviction(&settings(["1000", "volatile-ttl", "", ""])).is_some());
    }

    #[test]
    fn either_an_append_only_file_or_save_points_will_do() {
        assert_eq!(persistence(&settings(["0", "", "yes", ""])), None);
        assert_eq!(persistence(&settings(["0", "", "no", "3600 1"])), None);
        assert!(persistence(&settings(["0", "", "no", ""])).is_some());
    }

    #[test]
    fn the_version_is_compared_by_its_first_number() {
        assert_eq!(major("7.0.15"), Some(7));
        assert_eq!(major("10.1"), Some(10));
        assert_eq!(major("unstable"), None);
    }
}
