use thiserror::Error;

/// Longer values are no settings; they may be secrets that went astray.
const LONGEST_SHOWN: usize = 40;

/// What is wrong with a [`PoolConfig`](crate::PoolConfig).
///
/// Only values of the pool's own settings are shown, and none that looks like a URL.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value cannot be read.
    #[error("{name} is {value}: give {expected}")]
    Value {
        /// The environment variable, or the setting.
        name: String,
        /// The value in quotes, or what may be told of it.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A name is nearly that of a setting.
    #[error(
        "{name} is no setting of the pool: did you mean {similar}? (if it is another program's, \
         give the pool's variables a prefix of their own)"
    )]
    Misspelt {
        /// The environment variable.
        name: String,
        /// The one that is nearest.
        similar: String,
    },
    /// A name is not that of a setting, in a file that has nothing else.
    #[error("{name:?} is no setting of the pool: there are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// All settings.
        known: String,
    },
}

impl ConfigError {
    pub(super) fn value(name: &str, value: &str, expected: &'static str) -> Self {
        Self::Value {
            name: name.to_owned(),
            value: shown(value),
            expected,
        }
    }
}

fn shown(value: &str) -> String {
    let count = value.chars().count();
    if count > LONGEST_SHOWN || value.contains("://") || value.contains('@') {
        format!("a text of {count} characters")
    } else {
        format!("{value:?}")
    }
}
