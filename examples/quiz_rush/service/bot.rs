use std::time::Duration;

use reqwest::StatusCode;

use crate::api::{Message, TooManyRequests};

/// The client of the messenger, the same in both builds.
#[derive(Debug, Clone)]
pub(crate) struct Bot {
    client: reqwest::Client,
    url: String,
}

/// Why a message did not go out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The messenger refused the call; it takes calls again after this time.
    #[error("the messenger takes no more calls for {0:?}")]
    TooMany(Duration),
    /// The messenger answered with another error.
    #[error("the messenger answered {0}")]
    Status(StatusCode),
    /// The messenger did not answer.
    #[error("the messenger cannot be reached")]
    Http(#[from] reqwest::Error),
}

impl Bot {
    pub(crate) fn new(messenger: &str) -> Self {
        Self {
            client: reqwest::Client::new(),
            url: format!("{messenger}/sendMessage"),
        }
    }

    /// Sends one message; returns once the messenger has it.
    pub(crate) async fn send(&self, message: &Message) -> Result<(), SendError> {
        let response = self.client.post(&self.url).json(message).send().await?;
        match response.status() {
            StatusCode::OK => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => {
                let refusal: TooManyRequests = response.json().await?;
                Err(SendError::TooMany(Duration::from_secs(
                    refusal.parameters.retry_after,
                )))
            }
            status => Err(SendError::Status(status)),
        }
    }
}
