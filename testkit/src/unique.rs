use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A name that no other test on this machine has: `prefix`, then lowercase letters, digits and
/// underscores, so that it can be an SQL identifier, a file name or part of a Redis key as it is.
pub fn unique(prefix: &str) -> String {
    // The process id alone would come back after a reboot of a container; the random part keeps
    // names apart from those that an earlier process left in an external server.
    static PROCESS: LazyLock<String> =
        LazyLock::new(|| format!("{:x}_{:08x}", std::process::id(), fastrand::u32(..)));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{}_{number}", *PROCESS)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::unique;

    #[test]
    fn names_differ_and_are_plain_identifiers() {
        let names: HashSet<String> = (0..1000).map(|_| unique("t")).collect();
        assert_eq!(names.len(), 1000);
        for name in names {
            assert!(name.starts_with("t_"), "{name}");
            assert!(name.len() < 63, "longer than Postgres takes: {name}");
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{name}"
            );
        }
    }
}
