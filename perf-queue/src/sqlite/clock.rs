//! What time it is, told in a way that the next process can tell how long ago it was.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};

use super::rows::{between, millis, wall_clock};

/// How coarse the system tells the time since its start.
const COARSE: Duration = Duration::from_millis(10);

/// A moment by the wall clock, which can be set, and where the system tells it by the time since its start,
/// which cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    /// In milliseconds since 1970.
    pub(super) wall: i64,
    pub(super) up: Option<Up>,
}

/// Milliseconds since the start of the system, which has an id of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Up {
    boot: String,
    millis: i64,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            wall: wall_clock(),
            up: Up::now(),
        }
    }

    /// Of what has never been.
    pub(super) const fn never() -> Self {
        Self { wall: 0, up: None }
    }

    pub(super) fn before(mut self, ago: Duration) -> Self {
        let ago = millis(ago);
        self.wall = self.wall.saturating_sub(ago);
        if let Some(up) = &mut self.up {
            up.millis = up.millis.saturating_sub(ago);
        }
        self
    }

    /// At least how much time has passed since then. Where the wall clock alone can tell, because the
    /// system was started again or says nothing, this is what that was set forward by, too.
    pub(super) fn since(&self, then: &Self) -> Duration {
        // All times are rounded down.
        let wall = between(then.wall, self.wall).saturating_sub(Duration::from_millis(1));
        match (&self.up, &then.up) {
            // Where the time went back, the id was that of another system after all.
            (Some(now), Some(then)) if now.boot == then.boot && now.millis >= then.millis => {
                let up = between(then.millis, now.millis);
                wall.min(up.saturating_sub(COARSE))
            }
            _ => wall,
        }
    }

    /// Notes it for [`load`], before it is written by its wall clock. Forgets those that are not needed.
    pub(super) async fn save(&self, conn: &mut SqliteConnection, queue: i64) -> sqlx::Result<()> {
        let Some(up) = &self.up else {
            return Ok(());
        };
        sqlx::query(include_str!("sql/forget_clocks.sql"))
            .bind(queue)
            .execute(&mut *conn)
            .await?;
        sqlx::query(include_str!("sql/set_clock.sql"))
            .bind(queue)
            .bind(self.wall)
            .bind(&up.boot)
            .bind(up.millis)
            .execute(conn)
            .await?;
        Ok(())
    }
}

/// The moment that was written as `wall`.
pub(super) async fn load(
    conn: &mut SqliteConnection,
    queue: i64,
    wall: i64,
) -> sqlx::Result<Moment> {
    let row = sqlx::query(include_str!("sql/load_clock.sql"))
        .bind(queue)
        .bind(wall)
        .fetch_optional(conn)
        .await?;
    let up = match row {
        Some(row) => Some(Up {
            boot: row.try_get(0)?,
            millis: row.try_get(1)?,
        }),
        None => None,
    };
    Ok(Moment { wall, up })
}

impl Up {
    /// By files that Linux has, in memory.
    fn now() -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        Some(Self {
            boot: boot.trim().to_owned(),
            millis: parsed(&uptime)?,
        })
    }
}

/// Milliseconds of what begins with seconds and hundredths.
fn parsed(uptime: &str) -> Option<i64> {
    let (seconds, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
    let seconds: i64 = seconds.parse().ok()?;
    let hundredths: i64 = hundredths.get(..2)?.parse().ok()?;
    seconds.checked_mul(1_000)?.checked_add(hundredths * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: i64, boot: &str, millis: i64) -> Moment {
        let boot = boot.to_owned();
        let up = Some(Up { boot, millis });
        Moment { wall, up }
    }

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_wall_clock_that_was_set_forward_lets_no_more_time_pass() {
        let then = moment(1_000, "a", 500);
        assert_eq!(moment(4_000, "a", 600).since(&then), ms(90));
        // Set back, it is what it says, as after another start.
        assert_eq!(moment(900, "a", 600).since(&then), ms(0));
        assert_eq!(moment(4_000, "b", 600).since(&then), ms(2_999));
        assert_eq!(moment(4_000, "a", 400).since(&then), ms(2_999));
        let unknown = Moment {
            wall: 1_000,
            up: None,
        };
        assert_eq!(moment(4_000, "a", 600).since(&unknown), ms(2_999));
        assert_eq!(unknown.clone().since(&unknown), ms(0));
    }

    #[test]
    fn both_clocks_go_back_to_what_was_before() {
        let now = moment(1_000, "a", 500);
        assert_eq!(now.clone().before(ms(600)), moment(400, "a", -100));
        assert_eq!(now.since(&now.clone().before(ms(600))), ms(590));
    }

    #[test]
    fn the_time_since_the_start_is_read_from_what_linux_says() {
        assert_eq!(parsed("748.40 205.96\n"), Some(748_400));
        assert_eq!(parsed("0.07 0.00\n"), Some(70));
        for other in [
            "",
            "12",
            "12.",
            "12.x4",
            "x.00",
            "99999999999999999999.00 1",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
        if cfg!(target_os = "linux") {
            let (first, second) = (Up::now().unwrap(), Up::now().unwrap());
            assert_eq!(first.boot, second.boot);
            assert!(!first.boot.is_empty() && first.millis <= second.millis);
        }
    }
}
