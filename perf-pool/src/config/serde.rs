use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::{ConfigError, PoolConfig};

impl<'de> Deserialize<'de> for PoolConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Settings)
    }
}

struct Settings;

impl<'de> Visitor<'de> for Settings {
    type Value = PoolConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings of a pool")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PoolConfig, A::Error> {
        let mut config = PoolConfig::default();
        let mut seen = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if seen.contains(&name) {
                return Err(de::Error::custom(format_args!("{name} stands there twice")));
            }
            if !PoolConfig::names().any(|setting| setting == name) {
                return Err(de::Error::custom(unknown(name)));
            }
            // What is null is not set.
            if let Some(Text(text)) = map.next_value()?
                && let Some(Err(expected)) = config.set(&name, &text)
            {
                let error = ConfigError::value(&name, &text, expected);
                return Err(de::Error::custom(error));
            }
            seen.push(name);
        }
        Ok(config)
    }
}

fn unknown(name: String) -> ConfigError {
    let known: Vec<&str> = PoolConfig::names().collect();
    ConfigError::Unknown {
        name,
        known: known.join(", "),
    }
}

/// A value as it would be written in the environment, so that one notation holds for both.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar)
    }
}

struct Scalar;

impl Visitor<'_> for Scalar {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }
}
