use serde::Serialize;

use crate::CacheError;

/// The names of a cache's keys in Redis. All start with the same hash tag, so that they are in the
/// same slot of a cluster.
#[derive(Debug)]
pub(super) struct Keys {
    base: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, cache: &str) -> Self {
        let cache = escape(cache).replace(':', "%3A");
        let base = format!("{{{}:{cache}}}:", escape(prefix));
        Self { base }
    }

    /// The hash with the sequence of invalidations.
    pub(super) fn state(&self) -> String {
        format!("{}state", self.base)
    }

    /// The channel on which processes tell each other of invalidations.
    pub(super) fn bus(&self) -> String {
        format!("{}bus", self.base)
    }

    /// The value of a key.
    pub(super) fn value(&self, key: &impl Serialize) -> Result<Vec<u8>, CacheError> {
        let mut name = self.value_base();
        serde_json::to_writer(&mut name, key).map_err(|source| CacheError::Key {
            source: source.into(),
        })?;
        Ok(name)
    }

    /// The key as JSON, from the name of its value.
    pub(super) fn json<'a>(&self, name: &'a [u8]) -> &'a [u8] {
        name.get(self.base.len() + VALUE.len()..).unwrap_or(&[])
    }

    fn value_base(&self) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.base.len() + 32);
        name.extend_from_slice(self.base.as_bytes());
        name.extend_from_slice(VALUE);
        name
    }
}

const VALUE: &[u8] = b"v:";

/// A closing brace would end the hash tag early, and make it empty at the start, which is none. The
/// colon keeps the cache `b:c` of the prefix `a` apart from the cache `c` of `a:b`.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('}', "%7D")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &[u8]) -> &str {
        let name = std::str::from_utf8(name).unwrap();
        let from = name.find('{').unwrap() + 1;
        &name[from..from + name[from..].find('}').unwrap()]
    }

    #[test]
    fn all_names_of_a_cache_have_one_hash_tag_whatever_its_name() {
        for (prefix, cache) in [("p", "c"), ("}", "}{}"), ("{", "a}b"), ("", "")] {
            let keys = Keys::new(prefix, cache);
            let value = keys.value(&"{x}").unwrap();
            assert!(!tag(&value).is_empty());
            assert_eq!(tag(&value), tag(keys.state().as_bytes()));
            assert_eq!(tag(&value), tag(keys.bus().as_bytes()));
        }
    }

    #[test]
    fn no_two_caches_share_a_name() {
        let names = [
            ("a", "b:c"),
            ("a:b", "c"),
            ("a", "b%3Ac"),
            ("a", "b}c"),
            ("a", "b%7Dc"),
        ]
        .map(|(prefix, cache)| Keys::new(prefix, cache).state());
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name}");
        }
    }

    #[test]
    fn no_key_has_the_name_of_something_else_and_each_has_its_own() {
        let keys = Keys::new("p", "c");
        let (one, text) = (keys.value(&1).unwrap(), keys.value(&"1").unwrap());
        assert_ne!(one, text);
        assert_eq!(keys.json(&one), b"1");
        assert_eq!(keys.json(&text), b"\"1\"");
        assert_ne!(keys.value(&"state").unwrap(), keys.state().into_bytes());
    }

    #[test]
    fn a_key_that_json_does_not_take_is_an_error() {
        let map = std::collections::BTreeMap::from([(vec![1], 2)]);
        let error = Keys::new("p", "c").value(&map).unwrap_err();
        assert!(matches!(error, CacheError::Key { .. }), "{error}");
    }
}
