//! What the control groups of Linux allow this process, and what it uses of that.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The limits that the control groups set, versions 1 and 2. None of them on other systems.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Limits {
    pub(super) memory: Option<Memory>,
    /// Processors' worth of time, such as 0.5.
    pub(super) cores: Option<f64>,
}

/// The lowest limit of memory on the way to the root, and what the group that has it uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Memory {
    pub(super) limit: u64,
    /// The working set, as Kubernetes counts it: all of the group's memory but the files that the
    /// kernel would give up first.
    pub(super) usage: Option<u64>,
}

/// The names of the files of a version.
struct Files {
    limit: &'static str,
    usage: &'static str,
    inactive: &'static str,
    cores: fn(&Path) -> Option<f64>,
}

const V2: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    inactive: "inactive_file ",
    cores: |group| {
        let max = text(group, "cpu.max")?;
        let (quota, period) = max.trim().split_once(' ')?;
        share(quota, period)
    },
};

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    inactive: "total_inactive_file ",
    // A quota of -1 is none.
    cores: |group| {
        share(
            &text(group, "cpu.cfs_quota_us")?,
            &text(group, "cpu.cfs_period_us")?,
        )
    },
};

/// Without a limit, version 1 has the greatest number of pages that it knows, about 2^63 bytes.
const NONE: u64 = 1 << 60;

impl Limits {
    /// The limits of this process.
    pub(super) fn read() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        fs::read_to_string("/proc/self/cgroup")
            .map(|groups| Self::of(&groups, root))
            .unwrap_or_default()
    }

    /// The limits of a process in `groups` (the text of `/proc/self/cgroup`).
    fn of(groups: &str, root: &Path) -> Self {
        let mut limits = Self::default();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            let has = |name| controllers.split(',').any(|controller| controller == name);
            if controllers.is_empty() {
                limits.add_memory(root, path, &V2);
                limits.add_cores(root, path, &V2);
            }
            if has("memory") {
                limits.add_memory(&root.join("memory"), path, &V1);
            }
            if has("cpu") {
                limits.add_cores(&root.join("cpu"), path, &V1);
            }
        }
        limits
    }

    fn add_memory(&mut self, root: &Path, path: &str, files: &Files) {
        for group in groups(root, path) {
            let Some(limit) = number(&group, files.limit).filter(|limit| *limit < NONE) else {
                continue;
            };
            if self.memory.is_none_or(|memory| limit < memory.limit) {
                let usage = working_set(&group, files);
                self.memory = Some(Memory { limit, usage });
            }
        }
    }

    fn add_cores(&mut self, root: &Path, path: &str, files: &Files) {
        let quotas = groups(root, path).filter_map(|group| (files.cores)(&group));
        self.cores = quotas.chain(self.cores).reduce(f64::min);
    }
}

/// The group's directory and those above it. A path that is not there (a container sees the name
/// that its group has outside, mounted as the root) leaves the root.
fn groups(root: &Path, path: &str) -> impl Iterator<Item = PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    // What lies outside of a container's name space is shown as `/../..`.
    let outside = path.components().any(|part| part == Component::ParentDir);
    let path = if outside { Path::new("") } else { path };
    path.ancestors().map(|path| root.join(path))
}

fn text(group: &Path, file: &str) -> Option<String> {
    fs::read_to_string(group.join(file)).ok()
}

fn number(group: &Path, file: &str) -> Option<u64> {
    text(group, file)?.trim().parse().ok()
}

fn working_set(group: &Path, files: &Files) -> Option<u64> {
    let usage = number(group, files.usage)?;
    let stat = text(group, "memory.stat")?;
    let inactive = stat
        .lines()
        .find_map(|line| line.strip_prefix(files.inactive));
    let inactive: u64 = inactive?.trim().parse().ok()?;
    Some(usage.saturating_sub(inactive))
}

fn share(quota: &str, period: &str) -> Option<f64> {
    let quota: u32 = quota.trim().parse().ok()?;
    let period: u32 = period.trim().parse().ok()?;
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of groups with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn memory(limit: u64, usage: u64) -> Option<Memory> {
        let usage = Some(usage);
        Some(Memory { limit, usage })
    }

    #[test]
    fn version_2_has_the_lowest_limit_on_the_way_to_the_root_and_what_that_group_uses() {
        let root = tree(&[
            ("pod/app/memory.max", "max\n"),
            ("pod/app/memory.current", "100\n"),
            ("pod/app/cpu.max", "150000 100000\n"),
            ("pod/memory.max", "5000\n"),
            ("pod/memory.current", "3000\n"),
            (
                "pod/memory.stat",
                "anon 2500\ninactive_file 400\nfile 500\n",
            ),
            ("pod/cpu.max", "max 100000\n"),
            ("memory.max", "9000\n"),
        ]);
        let limits = Limits::of("0::/pod/app\n", root.path());
        assert_eq!(limits.memory, memory(5000, 2600));
        assert_eq!(limits.cores, Some(1.5));
    }

    #[test]
    fn version_1_has_a_directory_for_each_controller() {
        let root = tree(&[
            ("memory/docker/memory.limit_in_bytes", "5000\n"),
            ("memory/docker/memory.usage_in_bytes", "3000\n"),
            (
                "memory/docker/memory.stat",
                "inactive_file 1\ntotal_inactive_file 400\n",
            ),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cpu/docker/cpu.cfs_quota_us", "50000\n"),
            ("cpu/docker/cpu.cfs_period_us", "100000\n"),
            ("cpu/cpu.cfs_quota_us", "-1\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        let groups = "9:name=systemd:/x\n4:memory:/docker\n3:cpu,cpuacct:/docker\n0::/\n";
        let limits = Limits::of(groups, root.path());
        assert_eq!(limits.memory, memory(5000, 2600));
        assert_eq!(limits.cores, Some(0.5));
    }

    #[test]
    fn a_container_whose_group_has_another_name_outside_finds_its_own_at_the_root() {
        let root = tree(&[
            ("memory.max", "5000\n"),
            ("memory.current", "3000\n"),
            ("memory.stat", "inactive_file 0\n"),
        ]);
        for path in ["/", "/docker/0123abc", "/../../outside"] {
            let limits = Limits::of(&format!("0::{path}\n"), root.path());
            assert_eq!(limits.memory, memory(5000, 3000), "{path}");
        }
    }

    #[test]
    fn no_limit_and_nonsense_are_no_limit() {
        let root = tree(&[
            ("memory.max", "max\n"),
            ("cpu.max", "0 0\n"),
            ("odd/memory.max", "-3\n"),
            ("odd/cpu.max", "fast\n"),
        ]);
        for groups in ["", "0\n", "0::\n", "0::/odd\n", "nonsense:memory,cpu:/odd"] {
            assert_eq!(
                Limits::of(groups, root.path()),
                Limits::default(),
                "{groups}"
            );
        }
    }

    #[test]
    fn a_limit_without_a_known_usage_is_one() {
        let root = tree(&[("memory.max", "5000\n"), ("memory.current", "7\n")]);
        let memory = Limits::of("0::/", root.path()).memory;
        assert_eq!(
            memory,
            Some(Memory {
                limit: 5000,
                usage: None
            })
        );
    }
}
