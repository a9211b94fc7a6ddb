use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why a [`Loader`](crate::Loader) has no answer.
///
/// One query serves many callers, so the error is shared: a clone is cheap, and
/// [`source`](Error::source) gives each of them the query's own error.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LoadError {
    /// The query returned this error.
    #[non_exhaustive]
    Failed {
        /// How many keys the query asked for.
        keys: usize,
        /// The query's error.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The query, or the function that tells a value's key, panicked; a bug in it.
    #[non_exhaustive]
    Panicked {
        /// How many keys the query asked for.
        keys: usize,
        /// What it panicked with.
        message: Arc<str>,
    },
    /// The tokio runtime of the query ended before the query, or there is none.
    Closed,
}

impl LoadError {
    /// The query's error, where it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Failed { source, .. } => source.downcast_ref(),
            Self::Panicked { .. } | Self::Closed => None,
        }
    }

    pub(super) fn failed(keys: usize, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = Arc::from(source.into());
        Self::Failed { keys, source }
    }

    pub(super) fn panicked(keys: usize, payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a payload that is no text")
            .into();
        Self::Panicked { keys, message }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The query's error is the source, so it is not printed here as well.
            Self::Failed { keys, .. } => write!(f, "the query for {keys} keys failed"),
            Self::Panicked { keys, message } => {
                write!(f, "the query for {keys} keys panicked: {message}")
            }
            Self::Closed => f.write_str(
                "the load did not end: load inside a tokio runtime, and keep that running meanwhile",
            ),
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Purposefully the query's error itself, not the `Arc`: else no caller could
            // downcast what it finds here.
            Self::Failed { source, .. } => Some(&**source),
            Self::Panicked { .. } | Self::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_failed_load_is_the_querys_own_error() {
        let error = LoadError::failed(3, std::io::Error::other("disk full")).clone();
        let source = error.source().unwrap();
        assert!(source.downcast_ref::<std::io::Error>().is_some());
        assert_eq!(source.to_string(), "disk full");
        assert_eq!(error.to_string(), "the query for 3 keys failed");
        assert!(error.downcast_ref::<std::io::Error>().is_some());
        assert!(error.downcast_ref::<fmt::Error>().is_none());
    }

    #[test]
    fn a_panic_keeps_its_message() {
        for payload in [
            Box::new("boom") as Box<dyn Any + Send>,
            Box::new("boom".to_owned()),
        ] {
            let error = LoadError::panicked(1, &*payload);
            assert_eq!(error.to_string(), "the query for 1 keys panicked: boom");
        }
        let error = LoadError::panicked(1, &7_u8);
        assert!(error.to_string().ends_with("a payload that is no text"));
    }
}
