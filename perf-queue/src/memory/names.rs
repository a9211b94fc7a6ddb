use std::collections::HashMap;

use crate::JobId;
use crate::machine::Time;

/// The unique names that were given lately, and until when they count.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, (JobId, Time)>);

impl Names {
    /// Gives the name to a job, or says whose it is.
    pub(crate) fn claim(
        &mut self,
        name: String,
        id: JobId,
        now: Time,
        until: Time,
    ) -> Result<(), JobId> {
        match self.0.get(&name) {
            Some((other, ends)) if *ends > now => Err(*other),
            _ => {
                self.0.insert(name, (id, until));
                Ok(())
            }
        }
    }

    /// Drops the names whose time is over.
    pub(crate) fn tidy(&mut self, now: Time) {
        self.0.retain(|_, (_, until)| *until > now);
        if self.0.is_empty() && self.0.capacity() > 1_024 {
            self.0 = HashMap::new();
        }
    }
}
