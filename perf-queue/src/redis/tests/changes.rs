//! Limits that change while the queue runs.

use std::time::Duration;

use proptest::prelude::*;
use redis::cmd;

use super::support::*;
use crate::Scope;
use crate::model::changes::{self, Clock};
use crate::redis::RedisRemote;

/// What is gone by expiry is so sooner.
const EXPIRE: &str = "
    for _, name in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
        local till = redis.call('PEXPIRETIME', name)
        if till > 0 then redis.call('PEXPIREAT', name, till - ARGV[2]) end
    end
    return 0";

impl Clock for RedisRemote {
    async fn advance(&self, by: Duration) {
        self.move_clock(i64::try_from(by.as_micros()).unwrap())
            .await;
        let mut expire = cmd("EVAL");
        expire.arg(EXPIRE).arg(1).arg(self.keys.state());
        expire
            .arg(self.keys.base())
            .arg(u64::try_from(by.as_millis()).unwrap());
        let _: i64 = self.server.query(&expire).await.unwrap();
    }
}

impl RedisRemote {
    /// As if somebody had set the server's clock.
    pub(super) async fn move_clock(&self, micros: i64) {
        let mut ahead = cmd("HINCRBY");
        ahead.arg(self.keys.state()).arg("ahead").arg(micros);
        let _: i64 = self.server.query(&ahead).await.unwrap();
    }
}

#[test]
fn limits_that_change_hold_in_every_window_and_nothing_up_for_longer_than_a_period() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let Some(backend) = runtime.block_on(backend()) else {
        return;
    };
    proptest!(config, |(case in changes::cases())| {
        runtime.block_on(async {
            let remote = backend.clone().open(&testkit::unique("changes"), None).await.unwrap();
            changes::holds(&remote, case).await
        })?;
    });
}

#[tokio::test]
async fn rates_that_change_within_their_period_are_used() {
    for scope in [Scope::Queue, Scope::Key] {
        let Some(remote) = open().await else { return };
        changes::is_used(&remote, scope).await;
    }
}

#[tokio::test]
async fn a_limit_that_was_a_mistake_binds_nobody_once_it_is_corrected() {
    for scope in [Scope::Queue, Scope::Key] {
        let Some(remote) = open().await else { return };
        changes::is_corrected(&remote, scope).await;
    }
}
