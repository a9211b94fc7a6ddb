use std::sync::LazyLock;

use redis::Cmd;

use super::keys::Keys;

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

    /// A call of the script by its hash, for arguments of about so many bytes.
    pub(super) fn by_hash(&self, keys: &Keys, bytes: usize) -> Cmd {
        Self::call("EVALSHA", &self.hash, keys, bytes)
    }

    /// A call that brings the script along, for a server that does not know it (any more).
    pub(super) fn by_text(&self, keys: &Keys, bytes: usize) -> Cmd {
        Self::call("EVAL", self.text, keys, bytes)
    }

    fn call(verb: &str, script: &str, keys: &Keys, bytes: usize) -> Cmd {
        let own = script.len() + keys.all().len() * (keys.base().len() + 10);
        let mut call = Cmd::with_capacity(keys.all().len() + 10, own + bytes);
        call.arg(verb)
            .arg(script)
            .arg(keys.all().len())
            .arg(keys.all());
        call.arg(keys.base());
        call
    }
}

// What ends jobs has to run where the memory is full, or it would stay so.
macro_rules! script {
    ($name:ident, $flags:literal, $($file:literal),+) => {
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!("#!lua flags=", $flags, "\n", $(include_str!($file)),+))
        });
    };
}

/// With all that scripts which move jobs share.
macro_rules! mover {
    ($name:ident, $flags:literal, $($file:literal),+) => {
        script!(
            $name,
            $flags,
            "lua/state.lua",
            "lua/limits.lua",
            "lua/places.lua",
            $($file),+
        );
    };
}

mover!(ENQUEUE, "", "lua/enqueue.lua");
mover!(ENQUEUE_ALIKE, "", "lua/enqueue_alike.lua");
mover!(ENQUEUE_MANY, "", "lua/enqueue_many.lua");
mover!(
    EXCHANGE,
    "allow-oom",
    "lua/letters.lua",
    "lua/packs.lua",
    "lua/flight.lua",
    "lua/settle.lua",
    "lua/exchange.lua"
);
mover!(
    EXTEND,
    "allow-oom",
    "lua/letters.lua",
    "lua/packs.lua",
    "lua/extend.lua"
);
mover!(COUNTS, "no-writes", "lua/counts.lua");
mover!(
    SET_RULES,
    "allow-oom",
    "lua/letters.lua",
    "lua/packs.lua",
    "lua/set_rules.lua"
);
script!(PAUSE, "allow-oom", "lua/pause.lua");
script!(DEAD, "no-writes", "lua/dead.lua");
mover!(REPLAY, "", "lua/replay.lua");
script!(PURGE, "allow-oom", "lua/clock.lua", "lua/purge.lua");
