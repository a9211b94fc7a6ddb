use super::*;

fn reason(refused: Result<(Journal, Vec<Stored>), BackendError>) -> String {
    match refused {
        Err(BackendError::Unfit { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_queue_has_one_owner() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let reason_ = reason(Sqlite::open(dir.file()).start("test").await);
    assert!(reason_.contains("is open already"), "{reason_}");
    journal.shutdown().await;
    dir.open().await;
}

#[cfg(unix)]
#[tokio::test]
async fn another_name_of_the_file_does_not_help() {
    let dir = Dir::new();
    let (_journal, _) = dir.open().await;
    let link = dir.file().with_extension("link");
    std::os::unix::fs::symlink(dir.file(), &link).unwrap();
    reason(Sqlite::open(link).start("test").await);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let dir = Dir::new();
    dir.open().await.0.shutdown().await;
    sql(&dir.file(), "UPDATE perf_queue SET version = 2").await;
    let reason = reason(Sqlite::open(dir.file()).start("test").await);
    assert!(reason.contains("newer version"), "{reason}");
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let dir = Dir::new();
    std::fs::write(dir.file(), [b'x'; 4_096]).unwrap();
    let reason = reason(Sqlite::open(dir.file()).start("test").await);
    assert!(reason.contains("not a database"), "{reason}");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named() {
    let dir = Dir::new();
    let file = dir.dir.path().join("missing").join("jobs.db");
    let error = Sqlite::open(&file).start("test").await.unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    assert!(error.is_retryable());
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_nowhere_is_no_second_name() {
    let dir = Dir::new();
    let link = dir.file().with_extension("link");
    std::os::unix::fs::symlink(dir.file(), &link).unwrap();
    reason(Sqlite::open(&link).start("test").await);
    let (_journal, _) = Sqlite::open(&link).start("test").await.unwrap();
    let reason = reason(Sqlite::open(dir.file()).start("test").await);
    assert!(reason.contains("is open already"), "{reason}");
}

/// A child has copies of all open files until it has become another program.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_being_started_does_not_keep_the_queue() {
    let dir = Dir::new();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let until = std::sync::Arc::clone(&done);
    let starts = std::thread::spawn(move || {
        while !until.load(std::sync::atomic::Ordering::Relaxed) {
            let program = std::env::current_exe().unwrap();
            let mut program = std::process::Command::new(program);
            program.arg("--list").stdout(std::process::Stdio::null());
            program.status().unwrap();
        }
    });
    for _ in 0..50 {
        dir.open().await.0.shutdown().await;
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    starts.join().unwrap();
}
