//! What the server is asked for, in two ways.
//!
//! Plainly: the state, then the values, each by the command of the server that does that. That is cheap,
//! and tells all of most values. By the script: for what it does not tell, and where a key that is
//! missing needs a lease.
//!
//! Other clients' commands may come between those of a plain read, so it asks for the state first. What is
//! invalidated after that is invalidated after the read began, so the read may still bring it; whoever
//! keeps it hears of the invalidation, as of any that comes later. And the stamp of the leases that it
//! gives is rather too low than too high: fewer fills are taken.

use super::journal::Token;
use super::keeper::LEASE;
use super::reply::{Item, Replies, Values};
use super::request::Request;
use super::script::{MOST_KEYS, READ};

/// The length of the lease in front of each value.
pub(super) const TOKEN: usize = size_of::<Token>();
/// Where the stamp and the number of tags of a value are, behind its lease and when it expires.
const STAMP: usize = TOKEN + 8;
const TAGS: usize = STAMP + 8;

/// What the server knew when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When {
    /// The sequence of invalidations, of the last that was of everything, and of any tag.
    pub(super) sequence: u64,
    pub(super) all: u64,
    pub(super) tagged: u64,
    /// The time of the server, in milliseconds.
    pub(super) now: u64,
}

/// A lease of 16 bytes; if there is a value behind it, 8 of when it expires and its frame.
pub(super) type Found<'a> = (When, Option<&'a [u8]>);

impl When {
    /// Whether what was found plainly is all that there is to know: the script would not find more.
    /// `lease`: a key that is missing needs one.
    pub(super) fn settles(&self, value: Option<&[u8]>, lease: bool) -> bool {
        let stamp = value.and_then(|value| value.get(STAMP..)?.first_chunk());
        let tags = value.and_then(|value| value.get(TAGS..)?.first_chunk());
        let (Some(stamp), Some(tags)) = (stamp, tags) else {
            // Nothing but perhaps a lease, which the script prolongs.
            return !lease;
        };
        let stamp = u64::from_be_bytes(*stamp);
        let has_tags = u16::from_be_bytes(*tags) > 0;
        // If everything was invalidated since, it has the lease for what is loaded now. If its load
        // began later than the state was read, it is for the script to say.
        stamp < self.all || stamp <= self.sequence && (!has_tags || stamp >= self.tagged)
    }
}

/// Adds plain reads of so many names.
pub(super) fn ask_plainly<'a>(
    request: &mut Request,
    state: &str,
    mut names: impl Iterator<Item = &'a [u8]>,
    mut count: usize,
) {
    let state = state.as_bytes();
    while count > 0 {
        request.begin(5);
        for word in [b"HMGET", state, b"seq", b"all", b"tagged"] {
            request.word(word);
        }
        // Does nothing. But a server that has become a replica refuses it, as it does the script: what
        // it has may be old.
        request.begin(2);
        request.word(b"PERSIST");
        request.word(state);
        request.begin(1);
        request.word(b"TIME");
        let keys = count.min(MOST_KEYS);
        request.begin(1 + keys);
        request.word(b"MGET");
        names
            .by_ref()
            .take(keys)
            .for_each(|name| request.word(name));
        count -= keys;
    }
}

/// Adds reads by the script, of names and whether they get a lease if they are missing.
pub(super) fn ask_script(request: &mut Request, state: &str, names: &[(&[u8], bool)]) {
    for names in names.chunks(MOST_KEYS) {
        let mut call = READ.call(state.as_bytes(), names.iter().map(|(name, _)| *name));
        let flags = names.iter().map(|(_, lease)| b'0' + u8::from(*lease));
        let flags: Vec<u8> = flags.collect();
        // The script adds the number of the key.
        call.arg(LEASE.as_millis() as u64)
            .arg(&super::reads::token()[..12]);
        call.arg(flags);
        request.call(&call);
    }
}

/// What was found of each name, in their order; `None` where the server has lost the state, or that is
/// not what it was to answer.
pub(super) struct Answers<'a> {
    chunks: std::vec::IntoIter<Chunk<'a>>,
    current: Option<Chunk<'a>>,
}

/// What one command brought.
struct Chunk<'a> {
    names: usize,
    found: Option<(When, Values<'a>)>,
}

impl<'a> Answers<'a> {
    /// What `ask_plainly` found.
    pub(super) fn plain(answers: &mut Values<'a>, names: usize) -> Self {
        Self::in_chunks(names, || {
            let when = answers.next();
            let _primary = answers.next();
            let (time, values) = (answers.next(), answers.next());
            plain(when?, time?, values?)
        })
    }

    /// What `ask_script` found.
    pub(super) fn by_script(answers: &mut Values<'a>, names: usize) -> Self {
        Self::in_chunks(names, || script(answers.next()?))
    }

    fn in_chunks(
        names: usize,
        mut next: impl FnMut() -> Option<(When, Values<'a>, usize)>,
    ) -> Self {
        let mut chunks = Vec::with_capacity(names.div_ceil(MOST_KEYS));
        let mut left = names;
        while left > 0 {
            let names = left.min(MOST_KEYS);
            let found = next().filter(|(_, _, length)| *length == names);
            let found = found.map(|(when, values, _)| (when, values));
            chunks.push(Chunk { names, found });
            left -= names;
        }
        Self {
            chunks: chunks.into_iter(),
            current: None,
        }
    }
}

impl<'a> Iterator for Answers<'a> {
    type Item = Option<Found<'a>>;

    fn next(&mut self) -> Option<Option<Found<'a>>> {
        loop {
            if let Some(chunk) = self.current.as_mut().filter(|chunk| chunk.names > 0) {
                chunk.names -= 1;
                let found = chunk.found.as_mut();
                return Some(found.and_then(|(when, values)| {
                    let value = values.next()?;
                    Some((*when, bytes(value)))
                }));
            }
            self.current = Some(self.chunks.next()?);
        }
    }
}

/// The sequence of the first answer, if it has one.
pub(super) fn sequence(replies: &Replies) -> Option<u64> {
    let (mut answer, _) = array(replies.values().next()?)?;
    number(answer.next()?)
}

fn plain<'a>(
    when: Item<'a>,
    time: Item<'a>,
    values: Item<'a>,
) -> Option<(When, Values<'a>, usize)> {
    let [sequence, all, tagged] = numbers(array(when)?)?;
    let [seconds, micros] = numbers(array(time)?)?;
    let now = seconds.saturating_mul(1_000).saturating_add(micros / 1_000);
    let when = When {
        sequence,
        all,
        tagged,
        now,
    };
    let (values, length) = array(values)?;
    Some((when, values, length))
}

fn script(answer: Item<'_>) -> Option<(When, Values<'_>, usize)> {
    let (mut answer, length) = array(answer)?;
    if length != 5 {
        return None;
    }
    let [sequence, all, tagged, now] = numbers((answer, 4))?;
    let (found, length) = array(answer.nth(4)?)?;
    let when = When {
        sequence,
        all,
        tagged,
        now,
    };
    Some((when, found, length))
}

fn array(value: Item<'_>) -> Option<(Values<'_>, usize)> {
    match value {
        Item::Array(values, length) => Some((values, length)),
        _ => None,
    }
}

fn bytes(value: Item<'_>) -> Option<&[u8]> {
    match value {
        Item::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

fn numbers<const N: usize>((values, length): (Values<'_>, usize)) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    if length != N {
        return None;
    }
    for (to, value) in numbers.iter_mut().zip(values) {
        *to = number(value)?;
    }
    Some(numbers)
}

fn number(value: Item<'_>) -> Option<u64> {
    std::str::from_utf8(bytes(value)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn texts(numbers: &[u64]) -> Value {
        let text = |number: &u64| Value::BulkString(number.to_string().into_bytes());
        Value::Array(numbers.iter().map(text).collect())
    }

    /// Whatever somebody else has written there: no number is too large, and what is none is no answer.
    #[test]
    fn numbers_of_others_do_not_overflow() {
        let last = u64::MAX;
        let answers = |when: Value, time: Value| {
            let values = Value::Array(vec![Value::Nil]);
            let replies = Replies::from(vec![when, Value::Int(0), time, values]);
            let found = Answers::plain(&mut replies.values(), 1).next().flatten();
            found.map(|(when, _)| when)
        };
        let when = answers(texts(&[last; 3]), texts(&[last; 2])).unwrap();
        assert_eq!((when.sequence, when.now), (last, last));
        for stamp in [0, last - 1, last] {
            let value = [&[0; STAMP][..], &stamp.to_be_bytes(), &[0, 1]].concat();
            assert!(when.settles(Some(&value), true));
        }
        let beyond = || Value::Array(vec![Value::BulkString(vec![b'9'; 30]); 3]);
        assert!(answers(beyond(), texts(&[1, 2])).is_none());
        assert!(answers(texts(&[1; 3]), beyond()).is_none());
        assert!(answers(texts(&[1; 2]), texts(&[1, 2])).is_none());
    }
}
