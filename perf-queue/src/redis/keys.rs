/// The names of a queue's keys in Redis. All start with the same hash tag, so that they are in the
/// same slot of a cluster; those that a script makes for a single key of the queue as well.
#[derive(Debug)]
pub(super) struct Keys {
    base: String,
    all: [String; 14],
}

impl Keys {
    pub(super) fn new(prefix: &str, queue: &str) -> Self {
        let base = format!(
            "{{{}:{}}}:",
            escape(prefix),
            escape(queue).replace(':', "%3A")
        );
        // The order of `lua/state.lua`.
        let all = [
            "state", "jobs", "errors", "delayed", "leases", "ring", "waiting", "parked", "flight",
            "dead", "letters", "batches", "packs", "added",
        ]
        .map(|name| format!("{base}{name}"));
        Self { base, all }
    }

    /// What every name starts with.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn all(&self) -> &[String] {
        &self.all
    }

    /// The hash with the state, the rules among it.
    pub(super) fn state(&self) -> String {
        format!("{}state", self.base)
    }

    /// The channel on which processes wake each other.
    pub(super) fn wake(&self) -> String {
        format!("{}wake", self.base)
    }
}

/// A closing brace would end the hash tag early, and make it empty at the start, which is none. The
/// colon keeps the queue `b:c` of the prefix `a` apart from the queue `c` of `a:b`.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('}', "%7D")
}

#[cfg(test)]
mod tests {
    use super::Keys;

    fn tag(name: &str) -> &str {
        let from = name.find('{').unwrap() + 1;
        &name[from..from + name[from..].find('}').unwrap()]
    }

    #[test]
    fn all_names_of_a_queue_have_one_hash_tag_whatever_its_name() {
        for (prefix, queue) in [("p", "q"), ("}", "}{}"), ("{", "a}b"), ("", "")] {
            let keys = Keys::new(prefix, queue);
            for name in keys.all() {
                assert_eq!(tag(name), tag(keys.base()), "{name}");
                assert!(!tag(name).is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn no_two_queues_share_a_name() {
        let names = [
            ("a", "b:c"),
            ("a:b", "c"),
            ("a", "b%3Ac"),
            ("a", "b}c"),
            ("a", "b%7Dc"),
        ]
        .map(|(prefix, queue)| Keys::new(prefix, queue).base().to_owned());
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name}");
        }
    }
}
