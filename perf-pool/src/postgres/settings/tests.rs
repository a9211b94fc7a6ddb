use std::str::FromStr;

use super::*;

fn pool() -> About {
    About {
        target: "postgres://db/quiz".into(),
        name: "quiz".into(),
        max_connections: 10,
        statement_cache_capacity: None,
        begin_statement: None,
        after_connect: false,
    }
}

fn parsed(url: &str) -> PgConnectOptions {
    PgConnectOptions::from_str(url).unwrap()
}

fn behind(pooler: Pooler) -> PostgresSettings {
    PostgresSettings {
        pooler,
        ..PostgresSettings::default()
    }
}

#[test]
fn the_timeouts_ride_in_the_startup_packet_after_the_options_of_the_url() {
    let settings = PostgresSettings {
        statement_timeout: Some(Duration::from_secs(15)),
        idle_in_transaction_session_timeout: Some(Duration::from_micros(1)),
        ..PostgresSettings::default()
    };
    let url = "postgres://db/quiz?options[search_path]=a";
    let options = settings.configure(&pool(), parsed(url)).unwrap();
    assert_eq!(
        options.get_options(),
        Some(
            "-c search_path=a -c statement_timeout=15000 \
             -c idle_in_transaction_session_timeout=1"
        )
    );
    assert!(settings.session().is_none());
}

#[test]
fn without_timeouts_no_options_are_sent() {
    let options = PostgresSettings::default()
        .configure(&pool(), parsed("postgres://db/quiz"))
        .unwrap();
    assert_eq!(options.get_options(), None);
}

#[test]
fn the_application_has_the_name_of_the_pool_unless_the_url_gives_one() {
    let name = |about: About, url| {
        let options = PostgresSettings::default()
            .configure(&about, parsed(url))
            .unwrap();
        options.get_application_name().unwrap().to_owned()
    };
    assert_eq!(name(pool(), "postgres://db/quiz"), "quiz");
    let url = "postgres://db/quiz?application_name=mine";
    assert_eq!(name(pool(), url), "mine");
    let long = format!("\0{}", "ä".repeat(40));
    let about = About {
        name: long.into(),
        ..pool()
    };
    assert_eq!(name(about, "postgres://db/quiz"), "ä".repeat(31));
}

#[test]
fn the_capacity_of_the_statement_cache_is_read_from_any_options() {
    let capacity = |url: &str| statement_cache_capacity(&parsed(url));
    assert_eq!(capacity("postgres://db/quiz"), 100);
    assert_eq!(capacity("postgres://db/quiz?statement-cache-capacity=7"), 7);
    // A URL of these is none that can be parsed again.
    let odd = parsed("postgres://us%2Fer%40:pass%2F@db/quiz?host=/tmp/a%20b").host("a b:c/d");
    assert_eq!(statement_cache_capacity(&odd), 100);
    let odd = odd.socket("").statement_cache_capacity(3);
    assert_eq!(statement_cache_capacity(&odd), 3);
}

#[test]
fn no_statement_cache_is_refused_wherever_it_was_asked_for() {
    let about = About {
        statement_cache_capacity: Some(0),
        ..pool()
    };
    let settings = PostgresSettings::default();
    let error = settings
        .configure(&about, parsed("postgres://db/quiz"))
        .unwrap_err();
    assert_eq!(error, BuildError::NoStatementCache);
    let url = "postgres://db/quiz?statement-cache-capacity=0";
    let error = settings.configure(&pool(), parsed(url)).unwrap_err();
    assert_eq!(error, BuildError::NoStatementCache);
    let about = About {
        statement_cache_capacity: Some(5),
        ..pool()
    };
    let options = settings.configure(&about, parsed(url)).unwrap();
    assert_eq!(statement_cache_capacity(&options), 5);
}

#[test]
fn zeros_are_refused() {
    let url = "postgres://db/quiz";
    let settings = PostgresSettings {
        instances: 0,
        ..PostgresSettings::default()
    };
    let error = settings.configure(&pool(), parsed(url)).unwrap_err();
    assert_eq!(error, BuildError::NoInstances);
    let settings = PostgresSettings {
        statement_timeout: Some(Duration::ZERO),
        ..PostgresSettings::default()
    };
    let error = settings.configure(&pool(), parsed(url)).unwrap_err();
    let option = "statement_timeout";
    assert_eq!(error, BuildError::ZeroDuration { option });
}

fn refused(settings: &PostgresSettings, about: &About, url: &str) -> String {
    match settings.configure(about, parsed(url)).unwrap_err() {
        BuildError::BehindPooler { option, .. } => option.to_owned(),
        error => panic!("{error:?}"),
    }
}

#[test]
fn in_transaction_mode_what_needs_a_session_is_refused_by_name() {
    let url = "postgres://db/quiz";
    let transaction = behind(Pooler::PgBouncerTransaction);
    assert!(transaction.configure(&pool(), parsed(url)).is_ok());

    let settings = PostgresSettings {
        statement_timeout: Some(Duration::from_secs(1)),
        ..transaction.clone()
    };
    assert_eq!(refused(&settings, &pool(), url), "statement_timeout");
    let settings = PostgresSettings {
        idle_in_transaction_session_timeout: Some(Duration::from_secs(1)),
        ..transaction.clone()
    };
    assert_eq!(
        refused(&settings, &pool(), url),
        "idle_in_transaction_session_timeout"
    );
    let about = About {
        after_connect: true,
        ..pool()
    };
    assert_eq!(refused(&transaction, &about, url), "after_connect");
    let about = About {
        begin_statement: Some("BEGIN; SET work_mem = '1GB'"),
        ..pool()
    };
    assert_eq!(refused(&transaction, &about, url), "begin_statement");
}

#[test]
fn startup_options_are_refused_in_both_modes() {
    let url = "postgres://db/quiz?options[search_path]=a";
    for pooler in [Pooler::PgBouncerTransaction, Pooler::PgBouncerSession] {
        let error = behind(pooler).configure(&pool(), parsed(url)).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&pooler.to_string()), "{message}");
        assert!(message.contains("ALTER ROLE"), "{message}");
    }
}

#[test]
fn in_session_mode_the_timeouts_are_set_on_the_session() {
    let settings = PostgresSettings {
        statement_timeout: Some(Duration::from_secs(1)),
        ..behind(Pooler::PgBouncerSession)
    };
    let options = settings
        .configure(&pool(), parsed("postgres://db/quiz"))
        .unwrap();
    assert_eq!(options.get_options(), None);
    assert!(settings.session().is_some());
    assert!(behind(Pooler::PgBouncerSession).session().is_none());
}
