//! What one process leaves to the next of the jobs that it has started.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Instant;

use super::kill::{FILE, child_of};
use super::windows::{key, micros};
use super::*;
use crate::{JobContext, Queue, QueueBackend, QueueBuilder, Rate};

pub(super) const SOON: Duration = Duration::from_secs(10);

pub(super) fn plain(file: &Path) -> QueueBuilder<u32, u32, Sqlite> {
    let builder = Queue::<u32>::builder("test").backend(Sqlite::open(file));
    builder.key(|job: &u32| key(*job))
}

/// Built once who had it before has let go of it.
pub(super) async fn built<T: Send + 'static, B: Fn() -> QueueBuilder<T, u32, Sqlite>>(
    build: B,
) -> Queue<T>
where
    Sqlite: QueueBackend<T, u32>,
{
    let began = Instant::now();
    loop {
        match build().build().await {
            Ok(queue) => return queue,
            Err(error) => assert!(began.elapsed() < SOON, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// How many of these jobs start, until all have or the time is over.
pub(super) async fn starts(queue: Queue<u32>, jobs: Vec<u32>, within: Duration) -> usize {
    let all = jobs.len();
    queue.enqueue_batch(jobs).await.unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let started = Arc::clone(&count);
    let workers = queue.workers(4, move |_: u32, _: JobContext| {
        started.fetch_add(1, SeqCst);
        async { Ok(()) }
    });
    let workers = workers.spawn();
    let _ = tokio::time::timeout(within, queue.drain()).await;
    workers.shutdown(SOON).await;
    let started = count.load(SeqCst) as usize;
    assert!(started <= all);
    started
}

/// As if the process had been killed after it has started jobs, with limits that were the same for an hour.
pub(super) const KILLED: &str = "UPDATE perf_queue SET clean = 0;
    UPDATE perf_queue_past SET closed = NULL, changed = changed - 3600000";

/// The file as a process leaves it that is killed now.
fn snapshot(file: &Path) -> Dir {
    let dir = Dir::new();
    for end in ["", "-wal"] {
        let part = |file: &Path| format!("{}{end}", file.display());
        std::fs::copy(part(file), part(&dir.file())).unwrap();
    }
    dir
}

/// Ends as the documentation says, right after the handle of its only job.
#[test]
#[ignore = "run by the tests here"]
fn ends_as_documented() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let builder = plain(Path::new(&file)).rate_limit_per_key(Rate::new(1, PERIOD));
        let queue = builder.build().await.unwrap();
        println!("\nbuilt {}", micros());
        queue.enqueue(1).await.unwrap();
        let handler = |_: u32, _: JobContext| async {
            println!("\nstart {}", micros());
            Ok(())
        };
        let workers = queue.workers(4, handler).spawn();
        queue.close();
        queue.drain().await.unwrap();
        workers.shutdown(SOON).await;
    });
}

const PERIOD: Duration = Duration::from_secs(2);

#[test]
fn the_documented_end_of_a_process_leaves_what_was_started() {
    let dir = Dir::new();
    let mut before: Option<u64> = None;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Straight after the other, then so late that the key is free again.
    for late in [false, false, true] {
        if late {
            let earlier = "closed = closed - 2000";
            let earlier =
                ["past", "keys"].map(|of| format!("UPDATE perf_queue_{of} SET {earlier};"));
            runtime.block_on(sql(&dir.file(), &earlier.concat()));
            before = None;
        }
        let mut child = child_of("restarts::ends_as_documented", &dir.file(), &[]);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = |line: String| Some(line.split_once(' ')?.1.parse::<u64>().ok());
        let times: Vec<u64> = lines
            .map_while(Result::ok)
            .filter(|line| line.starts_with("built ") || line.starts_with("start "))
            .filter_map(|line| said(line).flatten())
            .collect();
        assert!(child.wait().unwrap().success());
        let [built, start] = times[..] else {
            panic!("{times:?}");
        };
        if let Some(before) = before {
            let apart = Duration::from_micros(start - before);
            assert!(apart + super::windows::LATE >= PERIOD, "{apart:?}");
        }
        if late {
            let took = Duration::from_micros(start - built);
            assert!(took < PERIOD, "{took:?}, as after a kill");
        }
        before = Some(start);
        for whole in ["clean FROM perf_queue", "closed > 0 FROM perf_queue_past"] {
            let (file, sql) = (dir.file(), format!("SELECT {whole}"));
            assert_eq!(runtime.block_on(number(&file, &sql)), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_killed_before_a_first_start_loses_nothing_of_what_was_known() {
    let dir = Dir::new();
    let rate = Rate::new(1, Duration::from_secs(600));
    let limited = |file: &Path| plain(file).rate_limit_per_key(rate);
    let queue = limited(&dir.file()).build().await.unwrap();
    assert_eq!(starts(queue, vec![0], SOON).await, 1);
    let idle = built(|| limited(&dir.file())).await;
    let killed = snapshot(&dir.file());
    drop(idle);
    let queue = limited(&killed.file()).build().await.unwrap();
    // That key is known, and the other one is new.
    assert_eq!(
        starts(queue, vec![0, 1], Duration::from_millis(500)).await,
        1
    );
    assert_eq!(
        number(&killed.file(), "SELECT count(*) FROM perf_queue_job").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_killed_while_jobs_ran_is_known_as_such() {
    let dir = Dir::new();
    let rate = Rate::new(1, Duration::from_secs(600));
    let limited = |file: &Path| plain(file).rate_limit_per_key(rate);
    let queue = limited(&dir.file()).build().await.unwrap();
    let (told, mut running) = tokio::sync::mpsc::channel(1);
    let workers = queue.workers(1, move |_: u32, _: JobContext| {
        let told = told.clone();
        async move {
            let _ = told.send(()).await;
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    let workers = workers.spawn();
    queue.enqueue(0).await.unwrap();
    running.recv().await.unwrap();
    let killed = snapshot(&dir.file());
    workers.shutdown(Duration::ZERO).await;
    let queue = limited(&killed.file()).build().await.unwrap();
    assert_eq!(
        starts(queue, vec![1], Duration::from_millis(500)).await,
        0,
        "nothing is known of any key"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_before_a_first_start_do_not_put_it_off() {
    let dir = Dir::new();
    let file = dir.file();
    let limited = || plain(&file).rate_limit_per_key(Rate::new(1, Duration::from_secs(600)));
    let queue = limited().build().await.unwrap();
    assert_eq!(starts(queue, vec![0], SOON).await, 1);
    drop(built(limited).await);
    drop(built(limited).await);
    sql(&file, KILLED).await;
    // The first after the kill, eleven minutes ago.
    drop(built(limited).await);
    sql(
        &file,
        "UPDATE perf_queue SET clean = 0; UPDATE perf_queue_past SET closed = closed - 660000",
    )
    .await;
    drop(built(limited).await);
    sql(&file, "UPDATE perf_queue SET clean = 0").await;
    assert_eq!(starts(built(limited).await, vec![0], SOON).await, 1);
}

async fn closure_then_fixed(kill: bool) -> usize {
    let dir = Dir::new();
    let file = dir.file();
    let fixed = || plain(&file).rate_limit_per_key(Rate::new(10, Duration::from_secs(10)));
    let fast = Rate::new(50, Duration::from_millis(100)).burst(50);
    let own = || plain(&file).rate_limit_per_key(move |_: &u32| fast);
    drop(built(fixed).await);
    assert_eq!(starts(built(own).await, vec![0; 20], SOON).await, 20);
    drop(built(own).await);
    if kill {
        sql(&file, KILLED).await;
    }
    starts(built(fixed).await, vec![0; 3], Duration::from_millis(1_500)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_all_keys_counts_what_those_of_their_own_let_through() {
    for kill in [false, true] {
        let started = closure_then_fixed(kill).await;
        assert_eq!(started, 0, "within 10 s of 20 others, {kill}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_their_own_count_what_was_let_through_without() {
    let dir = Dir::new();
    let file = dir.file();
    let none = || plain(&file);
    assert_eq!(starts(built(none).await, vec![0; 20], SOON).await, 20);
    drop(built(none).await);
    sql(&file, KILLED).await;
    let rate = Rate::new(10, Duration::from_secs(10));
    let own = || plain(&file).rate_limit_per_key(move |_: &u32| rate);
    let started = starts(built(own).await, vec![0; 3], Duration::from_millis(1_500)).await;
    assert_eq!(started, 0, "within 10 s of 20 others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_limits_have_changed_is_known_again_after_the_next_build() {
    let dir = Dir::new();
    let file = dir.file();
    let limited = || plain(&file).rate_limit(Rate::new(10, Duration::from_secs(10)));
    drop(built(limited).await);
    // Killed between the two settings of a new limit; and by a clock that was years ahead.
    for changed in ["NULL", "changed + 100000000000"] {
        drop(built(limited).await);
        let ahead = "changed > 1000 * unixepoch() + 3600000 OR changed IS NULL";
        let ahead = format!("SELECT {ahead} FROM perf_queue_past");
        assert_eq!(number(&file, &ahead).await, 0);
        sql(
            &file,
            &format!("UPDATE perf_queue_past SET changed = {changed}"),
        )
        .await;
        assert_eq!(number(&file, &ahead).await, 1);
        drop(built(limited).await);
        assert_eq!(number(&file, &ahead).await, 0, "{changed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_came_to_the_file_alone_counts_what_the_last_one_let_through() {
    let dir = Dir::new();
    let file = dir.file();
    let rate = Rate::new(1, Duration::from_millis(50));
    let limited = || plain(&file).rate_limit_per_key(rate);
    let queue = built(limited).await;
    let workers = queue.workers(1, |_: u32, _: JobContext| async { Ok(()) });
    let workers = workers.spawn();
    queue.enqueue(0).await.unwrap();
    queue.drain().await.unwrap();
    // The second one of another key starts a period later: the first is free again by the limit that it had.
    queue.enqueue_batch(vec![1, 1]).await.unwrap();
    queue.drain().await.unwrap();
    workers.shutdown(SOON).await;
    drop((queue, workers));
    drop(built(limited).await);
    sql(
        &file,
        "UPDATE perf_queue_state SET rules = '[null,[1,60,0,1],null]';
        UPDATE perf_queue_past SET changed = NULL",
    )
    .await;
    let queue = built(limited).await;
    let rate = queue.stats().await.unwrap().rate_limit_per_key;
    assert_eq!(rate, Some(Rate::new(1, Duration::from_secs(60))));
    assert_eq!(starts(queue, vec![0], Duration::from_millis(500)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_penalty_lasts_no_longer_than_it_was_to_where_the_clock_is_set_back() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let row = append(&journal, "a").await;
    journal.started(row);
    let after = Duration::from_secs(60);
    let place = Place::HoldsAll;
    journal.end(row, End::Snooze { after, place });
    journal.shutdown().await;
    let (journal, _) = dir.open().await;
    let left = journal.state.hold;
    assert!(left > after / 2 && left <= after, "{left:?}");
    journal.shutdown().await;
    let back = "UPDATE perf_queue_state SET hold = hold + 100000000000, held = held + 100000000000";
    sql(&dir.file(), back).await;
    let (journal, _) = dir.open().await;
    assert_eq!(journal.state.hold, after);
    journal.shutdown().await;
}
