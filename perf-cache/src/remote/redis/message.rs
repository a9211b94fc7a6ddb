//! What processes tell each other of invalidations: 16 bytes of who says it, and of each thing one
//! byte of its kind, four of its length, and itself.

use super::journal::{How, Token};

/// What was invalidated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// The name of its value in Redis.
    Key(&'a [u8], How),
    Tag(&'a str),
    All,
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    Gone(&'a [u8]),
    Expired(&'a [u8]),
    Tag(&'a str),
    All,
}

pub(super) fn write(origin: Token, items: &[Item<'_>]) -> Vec<u8> {
    let mut message = origin.to_vec();
    for item in items {
        let (kind, what) = match *item {
            Item::Key(name, How::Gone | How::Replaced(_)) => (b'k', name),
            Item::Key(name, How::Expired) => (b'e', name),
            Item::Tag(tag) => (b't', tag.as_bytes()),
            Item::All => (b'a', &[][..]),
        };
        // Redis takes no message as long as that would need more.
        let length = u32::try_from(what.len()).unwrap_or(u32::MAX);
        message.push(kind);
        message.extend(length.to_be_bytes());
        message.extend_from_slice(what);
    }
    message
}

/// The sequence of a message, who says it, and what; `None` if it is no message of this version.
pub(super) fn read(message: &[u8]) -> Option<(u64, Token, Vec<Heard<'_>>)> {
    let space = message.iter().position(|byte| *byte == b' ')?;
    let sequence = std::str::from_utf8(&message[..space]).ok()?.parse().ok()?;
    let (origin, mut rest) = message[space + 1..].split_first_chunk()?;
    let mut heard = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk()?;
        let (what, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        heard.push(match kind {
            b'k' => Heard::Gone(what),
            b'e' => Heard::Expired(what),
            b't' => Heard::Tag(std::str::from_utf8(what).ok()?),
            b'a' => Heard::All,
            _ => return None,
        });
        rest = after;
    }
    Some((sequence, *origin, heard))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let items = [
            Item::Key(b"a", How::Gone),
            Item::Key(b"", How::Expired),
            Item::Key(b"b c", How::Replaced([1; 16])),
            Item::Tag("org:7"),
            Item::All,
        ];
        let message = [b"42 ", &write([b' '; 16], &items)[..]].concat();
        let heard = vec![
            Heard::Gone(b"a"),
            Heard::Expired(b""),
            Heard::Gone(b"b c"),
            Heard::Tag("org:7"),
            Heard::All,
        ];
        assert_eq!(read(&message), Some((42, [b' '; 16], heard)));
        for length in 0..message.len() {
            let cut = read(&message[..length]);
            assert!(cut.is_none_or(|(_, _, heard)| heard.len() < items.len()));
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_said_without_harm(message: Vec<u8>) {
            let _ = read(&message);
        }
    }
}
