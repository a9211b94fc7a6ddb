//! The messages among the replies of a Redis server, in either version of its protocol.

/// What a server sends on one connection, cut into replies.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// The beginning of a reply.
    held: Vec<u8>,
    /// Before that, an array is no message, whatever is in it.
    subscribed: bool,
}

impl Replies {
    /// What is to be passed on of what came before and `bytes`: whole replies, but of the messages only
    /// those that `loses` lets pass. And how many it did not.
    pub(super) fn pass(
        &mut self,
        bytes: Vec<u8>,
        mut loses: impl FnMut() -> bool,
    ) -> (Vec<u8>, u64) {
        self.held.extend(bytes);
        let (mut passed, mut lost, mut at) = (Vec::new(), 0, 0);
        while let Some(length) = reply_length(&self.held[at..]) {
            let reply = &self.held[at..at + length];
            let kind = kind(reply);
            self.subscribed |= matches!(kind, b"subscribe" | b"psubscribe" | b"ssubscribe");
            let is_message = matches!(kind, b"message" | b"pmessage" | b"smessage");
            if self.subscribed && is_message && loses() {
                lost += 1;
            } else {
                passed.extend_from_slice(reply);
            }
            at += length;
        }
        self.held.drain(..at);
        (passed, lost)
    }
}

/// The length of the reply at the start of `bytes`, if it is there as a whole. What is not of the
/// protocol is taken for a reply.
fn reply_length(bytes: &[u8]) -> Option<usize> {
    if bytes.is_empty() {
        return None;
    }
    let (mut at, mut values) = (0, 1_usize);
    while values > 0 {
        values -= 1;
        let (sort, number, after) = head(bytes, at)?;
        at = after;
        match sort {
            b'$' | b'=' | b'!' => at += number.map_or(0, |length| length + 2),
            b'*' | b'>' | b'~' => values += number.unwrap_or(0),
            b'%' => values += 2 * number.unwrap_or(0),
            // Attributes, and then the value.
            b'|' => values += 2 * number.unwrap_or(0) + 1,
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => (),
            _ => return Some(bytes.len()),
        }
    }
    (at <= bytes.len()).then_some(at)
}

/// The sort of the value at `at`, the number behind it unless that is negative, and where its first line
/// ends.
fn head(bytes: &[u8], at: usize) -> Option<(u8, Option<usize>, usize)> {
    let (sort, rest) = bytes.get(at..)?.split_first()?;
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(&rest[..length]).ok();
    let number = number.and_then(|number| number.parse().ok());
    Some((*sort, number, at + 1 + length + 2))
}

/// The text that an array or a push begins with.
fn kind(reply: &[u8]) -> &[u8] {
    let text = || {
        let (sort, _, at) = head(reply, 0)?;
        let (first, length, from) = head(reply, at)?;
        let is_kind = matches!(sort, b'*' | b'>') && first == b'$';
        reply.get(from..from + length.filter(|_| is_kind)?)
    };
    text().unwrap_or(b"")
}

#[cfg(test)]
mod tests {
    use super::Replies;

    const SUBSCRIBED: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
    const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n\r\n$1\r\n";
    const PUSH: &[u8] = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n";
    const OTHERS: &[&[u8]] = &[
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-1\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"%1\r\n+a\r\n*2\r\n$0\r\n\r\n_\r\n",
        b"|1\r\n+a\r\n,1.5\r\n#t\r\n",
        b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    ];

    /// What is passed of all bytes, in pieces of this length.
    fn passed(bytes: &[u8], length: usize, lose: bool) -> (Vec<u8>, u64) {
        let mut replies = Replies::default();
        let (mut all, mut lost) = (Vec::new(), 0);
        for piece in bytes.chunks(length) {
            let (passed, more) = replies.pass(piece.to_vec(), || lose);
            all.extend(passed);
            lost += more;
        }
        (all, lost)
    }

    #[test]
    fn messages_are_lost_and_nothing_else_however_the_bytes_come() {
        let others = OTHERS.concat();
        let sent = [SUBSCRIBED, MESSAGE, &others, PUSH, MESSAGE, &others].concat();
        let left = [SUBSCRIBED, &others, &others].concat();
        for length in 1..=sent.len() {
            assert_eq!(passed(&sent, length, true), (left.clone(), 3), "{length}");
            assert_eq!(passed(&sent, length, false), (sent.clone(), 0), "{length}");
        }
    }

    #[test]
    fn what_looks_like_a_message_is_none_for_who_has_not_subscribed() {
        assert_eq!(passed(MESSAGE, 7, true), (MESSAGE.to_vec(), 0));
    }

    #[test]
    fn what_is_not_of_the_protocol_passes() {
        let other = b"R\0\0\0\x08\0\0\0\0\r\nZ\r\n";
        assert_eq!(passed(other, other.len(), true).0, other);
    }
}
