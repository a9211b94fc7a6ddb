use std::sync::LazyLock;

use redis::{Cmd, cmd};

/// A script and the hash by which the server knows it.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        let hash = redis::Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }

    /// A call of the script, by its hash; the arguments are to be added.
    pub(super) fn call<'a>(
        &self,
        state: &[u8],
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.hash).arg(1 + keys.len()).arg(state);
        for key in keys {
            call.arg(key);
        }
        call.arg(fastrand::u64(..START_BELOW));
        call
    }

    /// Brings the script to the server.
    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.text);
        load
    }
}

/// Numbers of Lua are exact up to 2^53. This leaves room to count, and two starts are still not
/// near each other but once in the age of the universe.
const START_BELOW: u64 = 1 << 52;

/// The keys that one call may have: Lua's stack has room for 8,000, and other clients wait for the
/// end of a call.
pub(super) const MOST_KEYS: usize = 500;

pub(super) fn all() -> [&'static Script; 3] {
    [&READ, &FILL, &INVALIDATE]
}

// Where the memory is full, values are refused; reading and invalidating must go on.
macro_rules! script {
    ($name:ident, $flags:literal, $file:literal) => {
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(
                "#!lua flags=",
                $flags,
                "\n",
                include_str!("lua/state.lua"),
                include_str!($file)
            ))
        });
    };
}

script!(READ, "allow-oom", "lua/read.lua");
script!(FILL, "", "lua/fill.lua");
script!(INVALIDATE, "allow-oom", "lua/invalidate.lua");
