//! Answers of the server as they come over the wire (RESP 2), without a copy of each.

use std::ops::Range;

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

/// No answer to what a cache asks has more elements in one array.
const MOST_ELEMENTS: usize = 1 << 20;
/// Redis' own bound of a value, in bytes.
const LONGEST: usize = 512 * 1024 * 1024;
/// Longer than any line that a server sends, errors among them.
const LONGEST_LINE: usize = 64 * 1024;
/// Room for more bytes is not kept for the next round trip.
pub(super) const LARGE: usize = 256 * 1024;

/// Answers, as far as they have come.
#[derive(Debug, Default)]
pub(super) struct Replies {
    bytes: Vec<u8>,
    /// So many of the bytes have come; behind them is room.
    filled: usize,
    /// So many of them are in `parts`.
    read: usize,
    parts: Vec<Part>,
    /// So many parts are still to come, and those within them.
    open: usize,
    error: Option<RedisError>,
}

#[derive(Debug)]
enum Part {
    /// So many parts follow that are in it.
    Array(usize),
    Bytes(Range<usize>),
    Nil,
    /// A number, or a word.
    Other,
}

impl Replies {
    /// From now on so many answers come.
    pub(super) fn expect(&mut self, answers: usize) {
        self.filled = 0;
        self.read = 0;
        self.parts.clear();
        self.open = answers;
        self.error = None;
    }

    /// Those that these bytes are.
    pub(super) fn of(bytes: &[u8], answers: usize) -> RedisResult<Self> {
        let mut replies = Self::default();
        replies.expect(answers);
        replies.bytes.extend_from_slice(bytes);
        match replies.came(bytes.len())? {
            true => Ok(replies),
            false => Err(malformed()),
        }
    }

    /// Where the next bytes go.
    pub(super) fn room(&mut self, least: usize) -> &mut [u8] {
        let needed = self.filled + least;
        if self.bytes.len() < needed {
            self.bytes.resize(needed.max(2 * self.bytes.len()), 0);
        }
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// So many bytes have come; says whether that was all.
    pub(super) fn came(&mut self, bytes: usize) -> RedisResult<bool> {
        self.filled += bytes;
        while self.open > 0 {
            if !self.read_part()? {
                return Ok(false);
            }
        }
        match self.read < self.filled {
            true => Err(malformed()),
            false => Ok(true),
        }
    }

    /// The first error that the server answered with, if it did.
    pub(super) fn check(&mut self) -> RedisResult<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// Whether the server has forgotten the scripts.
    pub(super) fn lacks_script(&self) -> bool {
        let kind = self.error.as_ref().map(RedisError::kind);
        kind == Some(ErrorKind::Server(ServerErrorKind::NoScript))
    }

    pub(super) const fn is_large(&self) -> bool {
        self.bytes.len() > LARGE
    }

    pub(super) fn values(&self) -> Values<'_> {
        Values {
            parts: &self.parts,
            bytes: &self.bytes,
        }
    }

    /// Reads one more; says whether it has come.
    fn read_part(&mut self) -> RedisResult<bool> {
        let rest = self.bytes.get(self.read..self.filled).unwrap_or_default();
        let mut line = rest.iter().take(LONGEST_LINE);
        let Some(end) = line.position(|byte| *byte == b'\n') else {
            return match rest.len() < LONGEST_LINE {
                true => Ok(false),
                false => Err(malformed()),
            };
        };
        let (line, _) = rest.split_at(end + 1);
        let [kind, text @ .., b'\r', b'\n'] = line else {
            return Err(malformed());
        };
        let mut next = self.read + line.len();
        let part = match kind {
            b'*' | b'$' if text == b"-1" => Part::Nil,
            b'*' => Part::Array(number(text, MOST_ELEMENTS)?),
            b'$' => {
                let bytes = next..next + number(text, LONGEST)?;
                next = bytes.end + 2;
                match self.bytes.get(bytes.end..next) {
                    Some(b"\r\n") if next <= self.filled => Part::Bytes(bytes),
                    Some(_) if next <= self.filled => return Err(malformed()),
                    _ => return Ok(false),
                }
            }
            b':' | b'+' => Part::Other,
            b'-' => {
                if let Value::ServerError(error) = redis::parse_redis_value(line)? {
                    self.error.get_or_insert(error.into());
                }
                Part::Other
            }
            _ => return Err(malformed()),
        };
        self.read = next;
        self.open -= 1;
        if let Part::Array(length) = part {
            self.open += length;
        }
        self.parts.push(part);
        Ok(true)
    }

    fn add(&mut self, value: Value) {
        let part = match value {
            Value::Array(values) => {
                self.parts.push(Part::Array(values.len()));
                return values.into_iter().for_each(|value| self.add(value));
            }
            Value::BulkString(bytes) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(&bytes);
                Part::Bytes(start..self.bytes.len())
            }
            Value::Nil => Part::Nil,
            _ => Part::Other,
        };
        self.parts.push(part);
    }
}

impl From<Vec<Value>> for Replies {
    /// Of answers that the client has read.
    fn from(values: Vec<Value>) -> Self {
        let mut replies = Self::default();
        values.into_iter().for_each(|value| replies.add(value));
        replies
    }
}

fn number(text: &[u8], most: usize) -> RedisResult<usize> {
    let text = std::str::from_utf8(text).ok();
    let number = text.and_then(|text| text.parse().ok());
    number
        .filter(|number| *number <= most)
        .ok_or_else(malformed)
}

fn malformed() -> RedisError {
    (ErrorKind::Parse, "this is not how Redis answers").into()
}

/// Values one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    parts: &'a [Part],
    bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Item<'a> {
    /// With how many there are.
    Array(Values<'a>, usize),
    Bytes(&'a [u8]),
    Nil,
    Other,
}

impl<'a> Iterator for Values<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let (first, rest) = self.parts.split_first()?;
        self.parts = rest;
        Some(match first {
            Part::Array(length) => {
                let (mut open, mut parts) = (*length, rest.iter());
                while open > 0 {
                    open -= 1;
                    if let Part::Array(length) = parts.next()? {
                        open += length;
                    }
                }
                let (parts, rest) = rest.split_at(rest.len() - parts.len());
                self.parts = rest;
                let bytes = self.bytes;
                Item::Array(Values { parts, bytes }, *length)
            }
            Part::Bytes(range) => Item::Bytes(self.bytes.get(range.clone())?),
            Part::Nil => Item::Nil,
            Part::Other => Item::Other,
        })
    }
}

#[cfg(test)]
mod tests;
