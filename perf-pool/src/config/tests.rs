use std::time::Duration;

use super::*;

fn read(vars: &[(&str, &str)]) -> Result<PoolConfig, ConfigError> {
    PoolConfig::from_vars("DB", vars.iter().copied())
}

fn message(name: &str, value: &str) -> String {
    read(&[(name, value)]).unwrap_err().to_string()
}

#[test]
fn what_is_set_is_read_and_nothing_else() {
    let config = read(&[
        ("DB_MAX_CONNECTIONS", "80"),
        ("DB_MIN_CONNECTIONS", ""),
        ("DB_ACQUIRE_TIMEOUT", "1m 30s"),
        ("DB_IDLE_TIMEOUT", "none"),
        ("OTHER_CONNECT_TIMEOUT", "never"),
        ("PING_TIMEOUT", "never"),
    ])
    .unwrap();
    let mut expected = PoolConfig::default();
    for (name, value) in [
        ("max_connections", "80"),
        ("acquire_timeout", "90s"),
        ("idle_timeout", "none"),
    ] {
        assert_eq!(expected.set(name, value), Some(Ok(())));
    }
    assert_eq!(config, expected);
}

#[test]
fn every_setting_has_a_value_of_its_own() {
    let mut config = PoolConfig::default();
    for name in PoolConfig::names() {
        let before = config.clone();
        let taken = ["7", "7s", "high", "0.5", "direct", "raw-sql", "warn"]
            .into_iter()
            .find(|value| config.set(name, value) == Some(Ok(())));
        assert!(taken.is_some(), "{name}");
        assert_ne!(config, before, "{name}");
    }
}

#[cfg(feature = "postgres")]
#[test]
fn every_setting_is_listed_in_the_readme() {
    let readme = include_str!("../../README.md");
    for name in PoolConfig::names() {
        let variable = format!("`DB_{}`", name.to_ascii_uppercase());
        assert!(readme.contains(&variable), "{variable}");
    }
}

#[test]
fn what_cannot_be_read_is_named_with_the_remedy() {
    assert_eq!(
        message("DB_MAX_CONNECTIONS", "many"),
        "DB_MAX_CONNECTIONS is \"many\": give a whole number above 0, such as 50"
    );
    assert_eq!(
        message("DB_ACQUIRE_TIMEOUT", "30"),
        "DB_ACQUIRE_TIMEOUT is \"30\": give a duration above 0 with its unit, such as 500ms, 30s \
         or 1h 30m"
    );
    assert_eq!(
        message("DB_PROFILE", "huge"),
        "DB_PROFILE is \"huge\": give low, moderate or high"
    );
}

#[test]
fn what_makes_no_sense_by_itself_is_refused_at_once() {
    for (name, value) in [
        ("DB_MAX_CONNECTIONS", "0"),
        ("DB_MAX_CONNECTING", "0"),
        ("DB_ACQUIRE_TIMEOUT", "0s"),
        ("DB_IDLE_TIMEOUT", "0s"),
        ("DB_MAX_LIFETIME_JITTER", "1.5"),
        ("DB_MAX_LIFETIME_JITTER", "NaN"),
    ] {
        let message = message(name, value);
        assert!(message.starts_with(&format!("{name} is ")), "{message}");
    }
    for (name, value) in [
        ("DB_MIN_CONNECTIONS", "0"),
        ("DB_ALIVE_BYPASS_WINDOW", "0s"),
        ("DB_WARN_PENDING", "0"),
    ] {
        assert!(read(&[(name, value)]).is_ok(), "{name}");
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    for value in [
        "postgres://app:hunter2@db/quiz",
        "app:hunter2@db",
        "hunter2hunter2hunter2hunter2hunter2hunter2",
    ] {
        let message = message("DB_MAX_CONNECTIONS", value);
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn a_misspelt_setting_is_an_error() {
    for (misspelt, meant) in [
        ("DB_MAX_CONECTIONS", "DB_MAX_CONNECTIONS"),
        ("DB_MAX_CONNECTION", "DB_MAX_CONNECTIONS"),
        ("DB_MAXCONNECTIONS", "DB_MAX_CONNECTIONS"),
        ("DB_max_connections", "DB_MAX_CONNECTIONS"),
        ("DB_AQUIRE_TIMEOUT", "DB_ACQUIRE_TIMEOUT"),
        ("DB_IDLE_TIMOUT", "DB_IDLE_TIMEOUT"),
        ("DB_PROFLIE", "DB_PROFILE"),
    ] {
        let error = read(&[(misspelt, "80")]).unwrap_err();
        let ConfigError::Misspelt { name, similar } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((name.as_str(), similar.as_str()), (misspelt, meant));
    }
}

#[test]
fn variables_of_others_may_have_the_prefix() {
    for name in [
        "URL",
        "URI",
        "DSN",
        "HOST",
        "PORT",
        "SOCKET",
        "USER",
        "USERNAME",
        "PASSWORD",
        "PASS",
        "NAME",
        "DATABASE",
        "SCHEMA",
        "SSL",
        "SSLMODE",
        "SSL_MODE",
        "TYPE",
        "DRIVER",
        "DIALECT",
        "CLIENT",
        "ENGINE",
        "FILE",
        "PATH",
        "CONNECTION",
        "INSTANCE",
        "POOL",
        "LOG_LEVEL",
        "REPLICA_URL",
        "CHARSET",
        "OPTIONS",
        "POOL_SIZE",
    ] {
        let variable = format!("DB_{name}");
        let config = read(&[(&variable, "postgres://app:hunter2@db/quiz")]);
        assert_eq!(config, Ok(PoolConfig::default()), "{variable}");
    }
}

#[test]
fn a_prefix_may_end_with_its_underscore() {
    let config = PoolConfig::from_vars("DB_", [("DB_MAX_CONNECTIONS", "80")]).unwrap();
    assert_ne!(config, PoolConfig::default());
}

#[cfg(feature = "sqlite")]
#[test]
fn a_configuration_takes_the_place_of_what_was_set_before() {
    use sqlx::Sqlite;

    let config = read(&[
        ("DB_POOL_NAME", "lite"),
        ("DB_MAX_CONNECTIONS", "8"),
        ("DB_IDLE_TIMEOUT", "none"),
        ("DB_PING_TIMEOUT", "2s"),
    ])
    .unwrap();
    let builder = crate::Pool::<Sqlite>::builder()
        .max_connections(3)
        .min_connections(2)
        .config(&config);
    let expected = crate::Pool::<Sqlite>::builder()
        .name("lite")
        .max_connections(8)
        .min_connections(2)
        .idle_timeout(None)
        .ping_timeout(Duration::from_secs(2));
    assert_eq!(format!("{builder:?}"), format!("{expected:?}"));
}

#[cfg(feature = "serde")]
mod from_a_file {
    use super::*;

    fn error(json: &str) -> String {
        serde_json::from_str::<PoolConfig>(json)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_file_says_the_same_as_the_environment() {
        let json = r#"{"max_connections": 80, "acquire_timeout": "5s", "idle_timeout": null}"#;
        let config: PoolConfig = serde_json::from_str(json).unwrap();
        let vars = [("DB_MAX_CONNECTIONS", "80"), ("DB_ACQUIRE_TIMEOUT", "5s")];
        assert_eq!(config, read(&vars).unwrap());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let message = error(r#"{"max_connections": -1}"#);
        let expected = "max_connections is \"-1\": give a whole number above 0";
        assert!(message.starts_with(expected), "{message}");
        let message = error(r#"{"acquire_timeout": 30}"#);
        assert!(message.contains("30s"), "{message}");
        for json in [r#"{"max_conections": 8}"#, r#"{"max_conections": null}"#] {
            let message = error(json);
            assert!(message.contains("max_connections, "), "{message}");
        }
        let message = error(r#"{"max_connections": 8, "max_connections": 9}"#);
        assert!(message.contains("twice"), "{message}");
    }
}
