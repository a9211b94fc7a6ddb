use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::causes;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The completion answers a question that the quiz does not have.
    #[error("quiz {quiz} has no question {question}")]
    UnknownQuestion {
        /// The quiz.
        quiz: i64,
        /// The question.
        question: i64,
    },
    /// The completion is of a user who is not registered.
    #[error("there is no user {0}")]
    UnknownUser(i64),
    /// Something behind the service failed; the client may try again.
    #[error(transparent)]
    Internal(#[from] anyhow::Error),
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Self::Internal(error.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::UnknownQuestion { .. } | Self::UnknownUser(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, self.to_string())
            }
            Self::Internal(error) => (StatusCode::INTERNAL_SERVER_ERROR, causes::of(&error)),
        }
        .into_response()
    }
}
