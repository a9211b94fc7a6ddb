use redis::Client;

use super::connection::Connection;
use super::error::failed;
use super::keys::Keys;
use super::remote::{Limits, RedisRemote};
use super::wake::Wake;
use super::{Redis, fit};
use crate::BackendError;
use crate::remote::{Remote, Rules};

impl Redis {
    /// Connects, checks the server, and sets the rules, unless they are to stay as they are.
    pub(crate) async fn open(
        self,
        queue: &str,
        rules: Option<&Rules>,
    ) -> Result<RedisRemote, BackendError> {
        let client = Client::open(self.url.as_str()).map_err(failed)?;
        let server = Connection::new(client, self.response_timeout);
        fit::check(&server, self.data_loss_allowed).await?;
        let keys = Keys::new(&self.prefix, queue);
        let wake = Wake::listen(server.client().clone(), keys.wake());
        let limits = Limits {
            capacity: self.capacity,
            dead_letters: self.dead_letters,
        };
        let remote = RedisRemote::new(server, keys, wake, limits);
        if let Some(rules) = rules {
            remote.set_rules(rules).await?;
        }
        Ok(remote)
    }
}
