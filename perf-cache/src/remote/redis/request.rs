//! Calls as they go over the wire (RESP).

use redis::{Cmd, Pipeline, RedisResult};

use super::reply::{Item, LARGE, Replies};

/// Calls that are sent at once.
#[derive(Debug, Default)]
pub(super) struct Request {
    bytes: Vec<u8>,
    calls: usize,
}

impl Request {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.calls = 0;
    }

    pub(super) const fn is_large(&self) -> bool {
        self.bytes.len() > LARGE
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many there are, and so answers.
    pub(super) const fn calls(&self) -> usize {
        self.calls
    }

    /// Begins a call of so many words, the name of the command among them, which are to be added.
    pub(super) fn begin(&mut self, words: usize) {
        self.calls += 1;
        self.line(b'*', words);
    }

    pub(super) fn word(&mut self, word: &[u8]) {
        self.line(b'$', word.len());
        self.bytes.extend_from_slice(word);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Adds a whole call.
    pub(super) fn call(&mut self, call: &Cmd) {
        self.calls += 1;
        call.write_packed_command(&mut self.bytes);
    }

    /// The same for the client's own connection.
    pub(super) fn pipeline(&self) -> RedisResult<Pipeline> {
        let calls = Replies::of(&self.bytes, self.calls)?;
        let mut pipeline = Pipeline::with_capacity(self.calls);
        for call in calls.values() {
            let Item::Array(words, count) = call else {
                continue;
            };
            let mut call = Cmd::with_capacity(count, 0);
            for word in words {
                if let Item::Bytes(word) = word {
                    call.arg(word);
                }
            }
            pipeline.add_command(call);
        }
        Ok(pipeline)
    }

    fn line(&mut self, kind: u8, number: usize) {
        self.bytes.push(kind);
        let mut digits = itoa::Buffer::new();
        self.bytes
            .extend_from_slice(digits.format(number).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_sends_the_same() {
        let mut request = Request::default();
        assert_eq!(request.pipeline().unwrap().get_packed_pipeline(), b"");
        let long = vec![7; 100_000];
        for words in [
            &[b"A".as_slice()][..],
            &[b"MGET", b"", b"*1\r\n$1\r\n", &[0, 255], &long],
        ] {
            request.begin(words.len());
            words.iter().for_each(|word| request.word(word));
            request.call(redis::cmd("GET").arg("x").arg(12));
        }
        assert_eq!(request.calls(), 4);
        let pipeline = request.pipeline().unwrap();
        assert_eq!(pipeline.len(), 4);
        assert!(pipeline.get_packed_pipeline() == request.bytes());
        request.clear();
        assert_eq!((request.bytes(), request.calls()), (&[][..], 0));
    }
}
