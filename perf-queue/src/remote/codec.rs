//! Jobs and keys as bytes: JSON, which people can read in the dead letters, and which stands a field
//! more or less.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Undecodable;
use crate::backend::Why;
use crate::panics::contained;

/// The bytes of a job.
pub(crate) fn encode<T: Serialize>(job: &T, max: usize) -> Result<Vec<u8>, Why> {
    let bytes = serde_json::to_vec(job).map_err(|error| Why::Encode(Arc::new(error)))?;
    if bytes.len() > max {
        let size = bytes.len();
        return Err(Why::TooLarge { size, max });
    }
    Ok(bytes)
}

/// The bytes of a key: the same for keys that are equal, in every process.
pub(crate) fn encode_key<K: Serialize>(key: &K, keyed: bool) -> Result<Vec<u8>, Why> {
    if !keyed {
        return Ok(Vec::new());
    }
    serde_json::to_vec(key).map_err(|error| Why::Encode(Arc::new(error)))
}

/// The job of the bytes. A type that panics over them must not take along the task that all workers
/// have their jobs from.
pub(crate) fn decode<T: DeserializeOwned>(payload: Vec<u8>) -> Result<T, Undecodable> {
    let decoded = contained(|| serde_json::from_slice(&payload).map_err(|error| error.to_string()));
    let reason = match decoded {
        Some(Ok(job)) => return Ok(job),
        Some(Err(reason)) => reason,
        None => "its decoding panics".to_owned(),
    };
    Err(Undecodable { payload, reason })
}
