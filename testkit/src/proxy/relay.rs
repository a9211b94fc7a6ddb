use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};

use super::counts::{Counts, Open};
use super::faults::Faults;
use super::messages::Replies;

/// The most that one read takes, and so the longest request that a predicate sees.
const CHUNK: usize = 16 * 1024;
/// Chunks on their way in one direction of a connection; when there are as many, its sender
/// waits. Full chunks of 16 KiB with a delay of 100 ms leave 160 MB/s.
const QUEUE: usize = 1024;
/// The pause after a failed accept: the process is out of files, until some are closed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// By how much tokio's timers may be late.
const TICKS: Duration = Duration::from_millis(2);

/// A chunk and when it is due; an empty one is the end of the stream.
type Due = (Instant, io::Result<Vec<u8>>);

/// Accepts clients for ever; dropped, it drops their connections.
pub(super) async fn accept(
    listener: TcpListener,
    target: Vec<SocketAddr>,
    faults: Arc<Faults>,
    counts: Arc<watch::Sender<Counts>>,
) -> Infallible {
    let target: Arc<[SocketAddr]> = target.into();
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let modes = faults.modes();
        if modes.refuse {
            let _ = client.set_zero_linger();
            counts.send_modify(|counts| counts.connections += 1);
            continue;
        }
        // Read before the connection is counted, so that a cut after that is seen.
        let cuts = modes.cuts;
        let open = Open::new(&counts);
        connections.spawn(connection(
            open,
            client,
            Arc::clone(&target),
            Arc::clone(&faults),
            cuts,
        ));
    }
}

/// Why a connection ends before both sides have closed it.
enum Stop {
    /// One side is gone.
    Broken,
    /// A cut, when the server has got these bytes.
    CutAfter(Vec<u8>),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// `open` comes first, so that it is dropped last: what is not counted is closed.
async fn connection(
    open: Open,
    mut client: TcpStream,
    target: Arc<[SocketAddr]>,
    faults: Arc<Faults>,
    cuts: u64,
) {
    let outcome = tokio::select! {
        biased;
        () = faults.cut_since(cuts) => Err(Stop::CutAfter(Vec::new())),
        outcome = relay(&mut client, &target, &faults, &open) => outcome,
    };
    if let Err(stop) = outcome {
        if let Stop::CutAfter(_) = stop {
            open.change(|counts| counts.cuts += 1);
        }
        // The client gets a reset, not an end of stream.
        let _ = client.set_zero_linger();
    }
}

async fn relay(
    client: &mut TcpStream,
    target: &[SocketAddr],
    faults: &Faults,
    open: &Open,
) -> Result<(), Stop> {
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let mut replies = faults.modes().lose.map(|_| Replies::default());
    let both = tokio::try_join!(
        direction(
            from_client,
            to_server,
            faults,
            |mut request| match faults.cut_at(&request) {
                Some(length) => {
                    request.truncate(length);
                    Err(Stop::CutAfter(request))
                }
                None => Ok(request),
            },
            |bytes| open.change(|counts| counts.to_server += bytes),
        ),
        direction(
            from_server,
            to_client,
            faults,
            |bytes| Ok(match &mut replies {
                Some(replies) => {
                    let loses = || fastrand::f64() < faults.modes().lose.unwrap_or_default();
                    let (passed, lost) = replies.pass(bytes, loses);
                    open.change(|counts| counts.lost_messages += lost);
                    passed
                }
                None => bytes,
            }),
            |bytes| open.change(|counts| counts.to_clients += bytes),
        ),
    );
    if let Err(Stop::CutAfter(last)) = &both {
        // Nothing carries replies any more when the server gets its last bytes.
        server.write_all(last).await?;
        open.change(|counts| counts.to_server += last.len() as u64);
    }
    both.map(drop)
}

async fn direction(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    faults: &Faults,
    pass: impl FnMut(Vec<u8>) -> Result<Vec<u8>, Stop>,
    passed: impl Fn(u64),
) -> Result<(), Stop> {
    let (queue, queued) = mpsc::channel(QUEUE);
    // At once with the writer's end, though the reader still waits for its peer.
    tokio::try_join!(
        read(from, queue, faults),
        write(queued, to, faults, pass, passed)
    )
    .map(drop)
}

/// Reads ahead, so that a delay does not lower the throughput. Even the end of the stream and its
/// failure wait for their time.
async fn read(
    mut from: impl AsyncRead + Unpin,
    queue: mpsc::Sender<Due>,
    faults: &Faults,
) -> Result<(), Stop> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).await;
        let last = !matches!(read, Ok(1..));
        let due = Instant::now() + faults.modes().delay;
        let chunk = read.map(|length| buffer[..length].to_vec());
        if queue.send((due, chunk)).await.is_err() || last {
            return Ok(());
        }
    }
}

async fn write(
    mut queued: mpsc::Receiver<Due>,
    mut to: impl AsyncWrite + Unpin,
    faults: &Faults,
    mut pass: impl FnMut(Vec<u8>) -> Result<Vec<u8>, Stop>,
    passed: impl Fn(u64),
) -> Result<(), Stop> {
    while let Some((due, chunk)) = queued.recv().await {
        wait_until(due).await;
        faults.passable().await;
        let chunk = chunk?;
        if chunk.is_empty() {
            to.shutdown().await?;
        } else {
            let chunk = pass(chunk)?;
            to.write_all(&chunk).await?;
            passed(chunk.len() as u64);
        }
    }
    Ok(())
}

/// More precise than tokio's timers, which tick in milliseconds and round up: a delay of 1 ms in
/// each direction would make round trips of 4 ms. The last bit is slept on a thread.
async fn wait_until(due: Instant) {
    let left = move || due.saturating_duration_since(Instant::now());
    if left() > TICKS {
        sleep_until(due - TICKS).await;
    }
    if !left().is_zero() {
        // An error would mean that the runtime ends, and this task with it.
        let _ = spawn_blocking(move || thread::sleep(left())).await;
    }
}
