use redis::ServerErrorKind;

use super::*;

/// What was answered, however it was read.
fn shown(values: Values<'_>) -> String {
    let show = |item| match item {
        Item::Array(values, length) => format!("{length}[{}]", shown(values)),
        Item::Bytes(bytes) => format!("{bytes:?}"),
        Item::Nil => "nil".to_owned(),
        Item::Other => "other".to_owned(),
    };
    values.map(show).collect::<Vec<_>>().join(" ")
}

/// As a server would write it.
fn write(value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::Array(values) => {
            to.extend(format!("*{}\r\n", values.len()).as_bytes());
            values.iter().for_each(|value| write(value, to));
        }
        Value::BulkString(bytes) => {
            to.extend(format!("${}\r\n", bytes.len()).as_bytes());
            to.extend(bytes);
            to.extend(b"\r\n");
        }
        Value::Int(number) => to.extend(format!(":{number}\r\n").as_bytes()),
        Value::Okay => to.extend(b"+OK\r\n"),
        _ => to.extend([b"$-1\r\n", b"*-1\r\n"][fastrand::usize(..2)]),
    }
}

fn any(depth: u32) -> Value {
    match fastrand::u8(..if depth < 3 { 6 } else { 5 }) {
        0 => Value::Nil,
        1 => Value::Int(fastrand::i64(..)),
        2 => Value::Okay,
        3 | 4 => {
            let pieces: [&[u8]; 5] = [b"\r\n", b"$1\r\n", b"*2\r\n", b"-ERR x\r\n", &[0, 255]];
            let pieces = (0..fastrand::usize(..4)).map(|_| pieces[fastrand::usize(..5)]);
            Value::BulkString(pieces.collect::<Vec<_>>().concat())
        }
        _ => Value::Array((0..fastrand::usize(..5)).map(|_| any(depth + 1)).collect()),
    }
}

/// Feeds bytes in pieces of random lengths.
fn feed(replies: &mut Replies, mut bytes: &[u8], longest: usize) -> RedisResult<bool> {
    loop {
        let length = fastrand::usize(1..=longest).min(bytes.len());
        let (piece, rest) = bytes.split_at(length);
        replies.room(length)[..length].copy_from_slice(piece);
        let whole = replies.came(length)?;
        if rest.is_empty() {
            return Ok(whole);
        }
        assert!(!whole, "{} bytes are left", rest.len());
        bytes = rest;
    }
}

#[test]
fn answers_are_what_the_client_would_read_however_they_are_cut() {
    let mut replies = Replies::default();
    for round in 0..2_000 {
        fastrand::seed(round);
        let values: Vec<Value> = (0..=fastrand::usize(..4)).map(|_| any(0)).collect();
        let mut bytes = Vec::new();
        values.iter().for_each(|value| write(value, &mut bytes));
        // The same room again and again.
        replies.expect(values.len());
        let longest = [1, 7, 1_000][fastrand::usize(..3)];
        assert!(feed(&mut replies, &bytes, longest).unwrap(), "{values:?}");
        replies.check().unwrap();
        let expected = Replies::from(values);
        assert_eq!(shown(replies.values()), shown(expected.values()), "{round}");
    }
}

#[test]
fn the_first_error_of_the_server_counts_and_what_follows_it_is_read() {
    let mut replies = Replies::default();
    for longest in [1, 1_000] {
        replies.expect(3);
        let bytes = b":1\r\n-NOSCRIPT No matching script\r\n*2\r\n$1\r\nx\r\n-ERR other\r\n";
        assert!(feed(&mut replies, bytes, longest).unwrap());
        let error = replies.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::NoScript));
        assert_eq!(shown(replies.values()), "other other 2[[120] other]");
        replies.check().unwrap();
    }
    // And is not kept for the next.
    replies.expect(1);
    assert!(feed(&mut replies, b"-ERR x\r\n", 9).unwrap());
    replies.expect(1);
    assert!(feed(&mut replies, b"+OK\r\n", 9).unwrap());
    replies.check().unwrap();
}

#[test]
fn what_is_no_answer_is_an_error() {
    let line = [b"+".as_slice(), &vec![b'x'; LONGEST_LINE]].concat();
    for bytes in [
        b"\n".as_slice(),
        b"\r\n",
        b"+OK\n",
        b"?\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"*x\r\n",
        b"*-2\r\n",
        b"$-2\r\n",
        b"$+ 1\r\n",
        b"$99999999999999999999\r\n",
        b"*18446744073709551615\r\n",
        format!("*{}\r\n", MOST_ELEMENTS + 1).as_bytes(),
        format!("${}\r\n", LONGEST + 1).as_bytes(),
        b"$1\r\nxyz",
        b"$1\r\nx\n\n",
        // More than was asked for.
        b"+OK\r\n+OK\r\n",
        b"+OK\r\n\r",
        &line,
    ] {
        let mut replies = Replies::default();
        replies.expect(1);
        replies.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        let error = replies.came(bytes.len()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Parse, "{bytes:?}");
    }
}

/// Whatever a server says is to come: there is room for what has come.
#[test]
fn room_grows_with_what_comes() {
    let mut replies = Replies::default();
    replies.expect(1);
    let bytes = format!("*{MOST_ELEMENTS}\r\n${LONGEST}\r\nxyz");
    assert!(!feed(&mut replies, bytes.as_bytes(), 5).unwrap());
    replies.room(1_000);
    assert!(replies.bytes.len() < 4_000);
    assert!(!replies.is_large());
}
