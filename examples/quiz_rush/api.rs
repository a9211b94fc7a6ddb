//! What goes over HTTP: between users and service, and between service and messenger.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::args::Size;

/// The quiz of the rush.
pub(crate) const QUIZ: i64 = 1;
/// The quiz that is completed while nobody else is there, to see what a completion takes alone.
pub(crate) const QUIET_QUIZ: i64 = 2;
/// The users of the quiet completions; all others have smaller ids.
pub(crate) const QUIET_USERS: Range<i64> = 1_000_000..1_000_005;
/// Users who compete with one another.
const LEAGUE: i64 = 20;
/// Calls that the messenger takes in any second.
pub(crate) const CALLS_PER_SECOND: u32 = 200;
/// Messages that a user gets for a completion.
pub(crate) const MESSAGES: u32 = 5;

/// The body of `POST /quizzes/{id}/completions`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Completion {
    pub(crate) user_id: i64,
    pub(crate) answers: Vec<GivenAnswer>,
}

/// What a user answered to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenAnswer {
    pub(crate) question_id: i64,
    pub(crate) answer: String,
}

/// The reply to a completion.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) score: i64,
}

/// The query of `GET /leaderboard`, the ten best of a league.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct League {
    pub(crate) quiz: i64,
    pub(crate) league: i64,
}

/// A line of the leaderboard.
#[derive(Debug, Clone, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct Standing {
    pub(crate) user_id: i64,
    pub(crate) score: i64,
}

/// The body of the messenger's `POST /sendMessage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) chat_id: i64,
    /// 1 to [`MESSAGES`], in the order in which the user must see them.
    pub(crate) part: u32,
    pub(crate) text: String,
}

/// The messenger's refusal, as the Telegram Bot API words it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TooManyRequests {
    pub(crate) ok: bool,
    pub(crate) error_code: u16,
    pub(crate) parameters: RetryAfter,
}

/// How long to wait before the next call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RetryAfter {
    /// Whole seconds.
    pub(crate) retry_after: u64,
}

const CHOICES: [&str; 4] = ["amber", "birch", "cedar", "dune"];

/// The right answer to a question.
pub(crate) fn correct(question_id: i64) -> &'static str {
    CHOICES[question_id.rem_euclid(4) as usize]
}

/// The league that a user is in.
pub(crate) fn league_of(user_id: i64) -> i64 {
    (user_id - 1) / LEAGUE
}

/// What a user answers: right most of the time, and never the same as the next user.
pub(crate) fn answers_of(user_id: i64, questions: u32) -> Vec<GivenAnswer> {
    (1..=i64::from(questions))
        .map(|question_id| {
            let slip = i64::from((user_id * 31 + question_id * 17) % 5 == 0);
            GivenAnswer {
                question_id,
                answer: correct(question_id + slip).to_owned(),
            }
        })
        .collect()
}

/// The messages that a user gets for a completion.
pub(crate) fn messages_for(user_id: i64, score: i64) -> Vec<Message> {
    let texts = [
        "Your answers are in.".to_owned(),
        format!("You scored {score} points."),
        "See where you stand on the leaderboard.".to_owned(),
        "You earned the badge of the day.".to_owned(),
        "The next quiz opens tomorrow.".to_owned(),
    ];
    texts
        .into_iter()
        .zip(1..=MESSAGES)
        .map(|(text, part)| Message {
            chat_id: user_id,
            part,
            text,
        })
        .collect()
}

/// Messages that a rush of this size brings.
pub(crate) fn messages_of(size: Size) -> u64 {
    u64::from(size.users) * u64::from(MESSAGES)
}
