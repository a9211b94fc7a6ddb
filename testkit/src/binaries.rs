use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Replaces the places that are searched, where set: directories in the form of `PATH`.
const OVERRIDE: &str = "PERF_TEST_SERVER_PATH";

/// Folders whose entries that start with a name may hold a version's `bin` directory.
const VERSIONED: [(&str, &str); 4] = [
    ("/usr/lib/postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@"),
    ("/usr/local/opt", "postgresql@"),
    ("/usr", "pgsql-"),
];

/// The first directory that holds all of `names`.
pub(crate) fn directory_with(names: &[&str]) -> Option<PathBuf> {
    directories()
        .into_iter()
        .find(|directory| names.iter().all(|name| directory.join(name).is_file()))
}

fn directories() -> Vec<PathBuf> {
    if let Some(only) = env::var_os(OVERRIDE) {
        return env::split_paths(&only).collect();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = env::split_paths(&path).collect();
    for (folder, prefix) in VERSIONED {
        directories.extend(versions(Path::new(folder), prefix));
    }
    // Debian has PgBouncer in the last, which is not in everybody's `PATH`.
    for folder in [
        "/opt/homebrew/bin",
        "/usr/local/bin",
        "/usr/bin",
        "/usr/sbin",
    ] {
        directories.push(PathBuf::from(folder));
    }
    directories
}

/// The `bin` directories of the installed versions, newest first.
fn versions(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, bin)| bin).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::versions;

    #[test]
    fn the_newest_version_comes_first_by_number() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["postgresql@9", "postgresql@17", "postgresql@15", "other"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let bins = versions(folder.path(), "postgresql@");
        let expected = ["postgresql@17", "postgresql@15", "postgresql@9"]
            .map(|name| folder.path().join(name).join("bin"));
        assert_eq!(bins, expected);
    }
}
