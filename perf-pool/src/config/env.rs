use std::ffi::OsString;

use super::similar::similar;
use super::{ConfigError, PoolConfig};

/// Words of which a variable consists that is meant for a pool, though maybe for another one.
const OF_POOLS: [&str; 9] = [
    "POOL",
    "CONNECTIONS",
    "CONNS",
    "MAX",
    "MIN",
    "IDLE",
    "LIFETIME",
    "TIMEOUT",
    "KEEPALIVE",
];

/// Variables that others know: Google's Cloud SQL has the first.
const OF_OTHERS: [&str; 1] = ["INSTANCE"];

pub(super) fn read<N: Into<OsString>, V: Into<OsString>>(
    prefix: &str,
    vars: impl IntoIterator<Item = (N, V)>,
) -> Result<PoolConfig, ConfigError> {
    let prefix = match prefix.trim_end_matches('_') {
        "" => String::new(),
        prefix => format!("{prefix}_"),
    };
    let mut config = PoolConfig::default();
    for (variable, value) in vars {
        // The names of all settings are Unicode.
        let Ok(variable) = variable.into().into_string() else {
            continue;
        };
        let Some(name) = variable.strip_prefix(&prefix) else {
            continue;
        };
        let value = value.into();
        if value.is_empty() {
            continue;
        }
        let value = value.to_string_lossy();
        let setting = PoolConfig::names().find(|setting| setting.to_ascii_uppercase() == name);
        match setting.and_then(|setting| config.set(setting, &value)) {
            Some(read) => {
                read.map_err(|expected| ConfigError::value(&variable, &value, expected))?;
            }
            None => unknown(&prefix, &variable, name)?,
        }
    }
    Ok(config)
}

/// What to do about a variable that has the prefix and is no setting.
fn unknown(prefix: &str, variable: &str, name: &str) -> Result<(), ConfigError> {
    if OF_OTHERS.contains(&name) {
        return Ok(());
    }
    if let Some(similar) = similar(name, PoolConfig::names()) {
        return Err(ConfigError::Misspelt {
            name: variable.to_owned(),
            similar: format!("{prefix}{}", similar.to_ascii_uppercase()),
        });
    }
    if name.split('_').any(|word| OF_POOLS.contains(&word)) {
        tracing::warn!(
            variable,
            "no setting of the pool has this name, it is ignored"
        );
    }
    Ok(())
}
