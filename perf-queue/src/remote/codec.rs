//! Jobs and keys as bytes: JSON, which people can read in the dead letters, and which stands a field
//! more or less.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Undecodable;
use crate::backend::Why;

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

/// The job of the bytes.
pub(crate) fn decode<T: DeserializeOwned>(payload: Vec<u8>) -> Result<T, Undecodable> {
    match serde_json::from_slice(&payload) {
        Ok(job) => Ok(job),
        Err(error) => Err(Undecodable {
            payload,
            reason: error.to_string(),
        }),
    }
}
