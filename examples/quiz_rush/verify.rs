//! The rush's check of its own result: every answer in the database exactly once, every message at
//! the messenger exactly once, in order for each user and with the right text.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::api::{GivenAnswer, Message, QUIZ, answers_of, correct, messages_for};
use crate::args::Size;
use crate::protocol::Arrival;

/// A row of `answers`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct SavedAnswer {
    user_id: i64,
    question_id: i64,
    answer: String,
    points: i64,
}

/// The answers in the database.
pub(crate) async fn saved(path: &Path) -> Result<Vec<SavedAnswer>> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .connect()
        .await
        .with_context(|| format!("open {} to check it", path.display()))?;
    let rows = sqlx::query_as(
        "SELECT user_id, question_id, answer, points FROM answers WHERE quiz_id = ?",
    )
    .bind(QUIZ)
    .fetch_all(&mut connection)
    .await?;
    connection.close().await?;
    Ok(rows)
}

/// What is wrong with the answers in the database, a line a finding; empty if nothing is.
pub(crate) fn answers(rows: Vec<SavedAnswer>, size: Size) -> Vec<String> {
    let mut saved: HashMap<i64, Vec<SavedAnswer>> = HashMap::new();
    for row in rows {
        saved.entry(row.user_id).or_default().push(row);
    }
    let mut findings = Vec::new();
    for user_id in 1..=i64::from(size.users) {
        let mut rows = saved.remove(&user_id).unwrap_or_default();
        rows.sort_by_key(|row| row.question_id);
        let expected: Vec<_> = answers_of(user_id, size.answers)
            .into_iter()
            .map(|a| expected_row(user_id, a))
            .collect();
        if rows != expected {
            let right = expected.iter().filter(|row| rows.contains(row)).count();
            findings.push(format!(
                "user {user_id}: {} rows in the database, {right} of {} answers right",
                rows.len(),
                expected.len()
            ));
        }
    }
    findings.extend(
        saved
            .keys()
            .map(|user| format!("user {user} has answers but gave none")),
    );
    findings
}

fn expected_messages(user_id: i64, size: Size) -> Vec<Message> {
    let given = answers_of(user_id, size.answers).into_iter();
    let score = given.map(|a| expected_row(user_id, a).points).sum();
    messages_for(user_id, score)
}

fn expected_row(user_id: i64, given: GivenAnswer) -> SavedAnswer {
    SavedAnswer {
        user_id,
        question_id: given.question_id,
        points: i64::from(given.answer == correct(given.question_id)),
        answer: given.answer,
    }
}

/// What is wrong with the messages that arrived, a line a finding; empty if nothing is.
pub(crate) fn messages(arrivals: &[Arrival], size: Size) -> Vec<String> {
    let mut by_user: HashMap<i64, Vec<&Message>> = HashMap::new();
    for Arrival { message, .. } in arrivals {
        by_user.entry(message.chat_id).or_default().push(message);
    }
    let mut findings = Vec::new();
    for user_id in 1..=i64::from(size.users) {
        let arrived = by_user.remove(&user_id).unwrap_or_default();
        let expected = expected_messages(user_id, size);
        if arrived
            .iter()
            .map(|m| m.part)
            .ne(expected.iter().map(|m| m.part))
        {
            let parts: Vec<u32> = arrived.iter().map(|m| m.part).collect();
            findings.push(format!("user {user_id}: messages arrived as {parts:?}"));
        } else if let Some((wrong, right)) =
            arrived.into_iter().zip(&expected).find(|(a, b)| a != b)
        {
            let (wrong, right) = (&wrong.text, &right.text);
            findings.push(format!(
                "user {user_id}: got {wrong:?} instead of {right:?}"
            ));
        }
    }
    findings.extend(
        by_user
            .keys()
            .map(|user| format!("user {user} got messages but is unknown")),
    );
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        users: 2,
        answers: 10,
    };

    fn all_rows() -> Vec<SavedAnswer> {
        (1..=2)
            .flat_map(|u| {
                answers_of(u, SIZE.answers)
                    .into_iter()
                    .map(move |a| expected_row(u, a))
            })
            .collect()
    }

    fn all_arrivals() -> Vec<Arrival> {
        let [one, two] = [1, 2].map(|user| expected_messages(user, SIZE));
        one.into_iter()
            .zip(two)
            .flat_map(|(one, two)| [one, two])
            .map(|message| Arrival { at: 0.0, message })
            .collect()
    }

    #[test]
    fn a_complete_result_has_no_findings() {
        assert!(answers(all_rows(), SIZE).is_empty());
        assert!(messages(&all_arrivals(), SIZE).is_empty());
    }

    #[test]
    fn a_missing_a_doubled_and_a_changed_answer_are_found() {
        let mut missing = all_rows();
        missing.remove(3);
        assert_eq!(
            answers(missing, SIZE),
            ["user 1: 9 rows in the database, 9 of 10 answers right"]
        );
        let mut doubled = all_rows();
        doubled.push(doubled[0].clone());
        assert_eq!(answers(doubled, SIZE).len(), 1);
        let mut changed = all_rows();
        changed[12].answer = "other".into();
        assert!(answers(changed, SIZE)[0].starts_with("user 2"));
    }

    #[test]
    fn a_lost_a_doubled_and_a_disordered_message_are_found() {
        let mut lost = all_arrivals();
        lost.pop();
        assert_eq!(
            messages(&lost, SIZE),
            ["user 2: messages arrived as [1, 2, 3, 4]"]
        );
        let mut doubled = all_arrivals();
        doubled.push(doubled[0].clone());
        assert_eq!(messages(&doubled, SIZE).len(), 1);
        let mut disordered = all_arrivals();
        disordered.swap(0, 2);
        assert_eq!(
            messages(&disordered, SIZE),
            ["user 1: messages arrived as [2, 1, 3, 4, 5]"]
        );
    }

    #[test]
    fn a_message_with_another_text_is_found() {
        let mut changed = all_arrivals();
        changed[2].message.text = "You scored 0 points.".into();
        let findings = messages(&changed, SIZE);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].starts_with("user 1: got \"You scored 0"),
            "{findings:?}"
        );
    }

    #[test]
    fn strangers_are_found() {
        let mut rows = all_rows();
        rows.push(SavedAnswer {
            user_id: 9,
            ..rows[0].clone()
        });
        assert_eq!(answers(rows, SIZE), ["user 9 has answers but gave none"]);
    }
}
