use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a [`Builder`](crate::Builder) was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The jitter is not a fraction of the time to live.
    #[error("jitter is {jitter}: take a fraction from 0.0 up to, not including, 1.0")]
    Jitter {
        /// The refused value.
        jitter: f64,
    },
    /// The beta of [`RefreshAhead::XFetch`](crate::RefreshAhead::XFetch) is not a positive number, or
    /// the part of [`RefreshAhead::Fraction`](crate::RefreshAhead::Fraction) not one of 0.0 to 1.0.
    #[error("refresh_ahead has {value}: take a beta above 0.0, or a fraction between 0.0 and 1.0")]
    RefreshAhead {
        /// The refused value.
        value: f64,
    },
    /// The hit ratios to warn below are not such, or the lower one is above the other.
    #[error(
        "hit_ratio_thresholds are {warn_below} and {alert_below}: take two ratios from 0.0 to 1.0, the \
         second not above the first"
    )]
    HitRatio {
        /// The first.
        warn_below: f64,
        /// The second.
        alert_below: f64,
    },
    /// A time is zero in which something has to happen.
    #[error("{setting} is zero, so nothing would ever be in time: take a millisecond or more")]
    NoTime {
        /// Which.
        setting: &'static str,
    },
    /// No load could ever run.
    #[error("max_concurrent_loads is 0, so nothing could ever be loaded: take 1 or more")]
    NoLoads,
    /// There is a weight to bound, and nothing that tells it.
    #[error("max_weight needs a weigher: add .weigher(|key, value| ..)")]
    NoWeigher,
    /// `build` ran outside a tokio runtime, and loads need one.
    #[error("no tokio runtime for the loads to run on: build the cache inside one")]
    NoRuntime,
    /// There is an invalidation bus, and no shared tier that it could run over.
    #[error("invalidation needs a shared tier: add .redis(RedisTier::connect(url).await?)")]
    NoSharedTier,
}

/// Why the cache could not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The key cannot be written as JSON, which is what the shared tier knows it by. In this
    /// process it was done.
    #[error("the key cannot be encoded for the shared tier: give it a Serialize that JSON takes")]
    Key {
        /// What serde says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The cache is shut down, so the shared tier was not told. In this process it was done.
    #[error("the cache is shut down: the shared tier was not told, only this process")]
    Closed,
}

/// Why a value could not be loaded.
///
/// One load serves many callers, so the error is shared: a clone is cheap, and
/// [`source`](Error::source) gives each of them the loader's own error.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LoadError {
    /// The loader returned this error.
    Failed(Arc<dyn Error + Send + Sync>),
    /// The loader panicked with this message; a bug in the loader.
    Panicked(Arc<str>),
    /// The load takes too long: longer than [`hard_timeout`](crate::Builder::hard_timeout), and then
    /// it goes on, or longer than [`load_timeout`](crate::Builder::load_timeout), and then it was
    /// ended.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The load was not started, or did not end, because the cache was shut down or the runtime
    /// of the load went away.
    Closed,
}

impl LoadError {
    /// The loader's error, where it is an `E`.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => error.downcast_ref(),
            Self::Panicked(_) | Self::TimedOut { .. } | Self::Closed => None,
        }
    }

    pub(crate) fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(Arc::from(error.into()))
    }

    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a payload that is no text");
        Self::Panicked(message.into())
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The loader's error is the source, so it is not printed here as well.
            Self::Failed(_) => f.write_str("the load failed"),
            Self::Panicked(message) => write!(f, "the load panicked: {message}"),
            Self::TimedOut { after } => write!(f, "the load takes longer than {after:?}"),
            Self::Closed => f.write_str("the load ended early: the cache or its runtime shut down"),
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Purposefully the loader's error itself, not the `Arc`: else no caller could
            // downcast what it finds here.
            Self::Failed(error) => Some(&**error),
            Self::Panicked(_) | Self::TimedOut { .. } | Self::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_failed_load_is_the_loaders_own_error() {
        let error = LoadError::failed(std::io::Error::other("disk full")).clone();
        let source = error.source().unwrap();
        assert!(source.downcast_ref::<std::io::Error>().is_some());
        assert_eq!(source.to_string(), "disk full");
        assert_eq!(error.to_string(), "the load failed");
        assert!(error.downcast_ref::<std::io::Error>().is_some());
        assert!(error.downcast_ref::<fmt::Error>().is_none());
    }

    #[test]
    fn a_text_is_an_error_too() {
        let error = LoadError::failed("no such user");
        assert_eq!(error.source().unwrap().to_string(), "no such user");
    }

    #[test]
    fn a_panic_keeps_its_message() {
        for payload in [
            Box::new("boom") as Box<dyn Any + Send>,
            Box::new("boom".to_owned()),
        ] {
            let error = LoadError::panicked(&*payload);
            assert_eq!(error.to_string(), "the load panicked: boom");
        }
        let error = LoadError::panicked(&7_u8);
        assert!(error.to_string().ends_with("a payload that is no text"));
    }
}
