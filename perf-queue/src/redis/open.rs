use redis::Client;

use super::connection::Connection;
use super::keys::Keys;
use super::remote::{Limits, RedisRemote};
use super::wake::Wake;
use super::{BACKEND, Redis, fit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::{Boxed, Open, Parts, QueueBackend, Ready};
use crate::remote::{Leased, Remote, Rules};
use crate::{BackendError, BuildError};

impl Redis {
    /// Connects, checks the server, and sets the rules, unless they are to stay as they are.
    pub(crate) async fn open(
        self,
        queue: &str,
        rules: Option<&Rules>,
    ) -> Result<RedisRemote, BackendError> {
        // Its own error would show what may be a password.
        let client = Client::open(self.url.as_str()).map_err(|_| BackendError::Unfit {
            backend: BACKEND,
            reason: "its URL is none: give redis://[user:password@]host[:port][/database]"
                .to_owned(),
        })?;
        let server = Connection::new(client, self.response_timeout);
        let address = server.address().to_owned();
        let opened = self.open_on(server, queue, rules).await;
        opened.map_err(|error| error.at(&address))
    }

    async fn open_on(
        self,
        server: Connection,
        queue: &str,
        rules: Option<&Rules>,
    ) -> Result<RedisRemote, BackendError> {
        fit::check(&server, self.data_loss_allowed).await?;
        let keys = Keys::new(&self.prefix, queue);
        fit::format(&server, &keys).await?;
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

impl<T, K> QueueBackend<T, K> for Redis
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Serialize + Send + 'static,
{
}

impl<T, K> Open<T, K> for Redis
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Serialize + Send + 'static,
{
    fn open(mut self, parts: Parts<T, K>) -> Boxed<'static, Result<Ready<T>, BuildError>> {
        Box::pin(async move {
            self.dead_letters = parts.dead_letters.unwrap_or(self.dead_letters);
            self.check()?;
            let rules = parts.rules();
            let capacity = self.capacity;
            let remote = Self::open(self, &parts.name, rules.as_ref()).await?;
            Ok(Leased::start(remote, capacity, parts))
        })
    }
}
