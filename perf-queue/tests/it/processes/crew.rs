//! Processes that are started, stopped and killed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::check::Stopped;
use super::log::now;
use super::worker::{EVENTS, NUMBER, PAUSE, PLACE, URL};
use crate::support::secs;

/// Longer than any queue takes to empty.
const HANGS: Duration = Duration::from_secs(240);

/// A process, killed when it is dropped.
pub(super) struct Process {
    child: Child,
    pub(super) number: u32,
    stopped: Option<Duration>,
}

impl Process {
    fn start(place: &str, url: &str, events: &Path, number: u32, pause: Duration) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("processes::worker::is_a_process_of_a_queue")
            .env(PLACE, place)
            .env(URL, url)
            .env(EVENTS, events)
            .env(NUMBER, number.to_string())
            .env(PAUSE, pause.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self {
            child: child.unwrap(),
            number,
            stopped: None,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Also where it is stopped.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The processes of a test; one that is killed is replaced.
pub(super) struct Crew {
    place: &'static str,
    /// Where each of them finds its queue.
    urls: Vec<String>,
    dir: PathBuf,
    pause: Duration,
    members: Vec<Process>,
    started: u32,
    pub(super) stops: Vec<Stopped>,
}

impl Crew {
    /// Each of the processes enqueues a job every `pause`.
    pub(super) fn start(
        place: &'static str,
        urls: Vec<String>,
        dir: &Path,
        pause: Duration,
    ) -> Self {
        let mut crew = Self {
            place,
            urls,
            dir: dir.to_owned(),
            pause,
            members: Vec::new(),
            started: 0,
            stops: Vec::new(),
        };
        for at in 0..crew.urls.len() {
            let process = crew.another(at);
            crew.members.push(process);
        }
        crew
    }

    fn another(&mut self, at: usize) -> Process {
        self.started += 1;
        let events = self.events_of(self.started);
        let url = &self.urls[at];
        Process::start(self.place, url, &events, self.started, self.pause)
    }

    fn events_of(&self, number: u32) -> PathBuf {
        self.dir.join(format!("events {number}"))
    }

    /// What each process there was has written.
    pub(super) fn files(&self) -> impl Iterator<Item = (u32, PathBuf)> {
        (1..=self.started).map(|number| (number, self.events_of(number)))
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn number(&self, at: usize) -> u32 {
        self.members[at].number
    }

    pub(super) fn is_stopped(&self, at: usize) -> bool {
        self.members[at].stopped.is_some()
    }

    /// Kills a process, and starts another one in its place.
    pub(super) fn replace(&mut self, at: usize) {
        self.note_stop(at);
        self.members[at].kill();
        self.members[at] = self.another(at);
    }

    pub(super) fn stop(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.stopped = Some(now());
        member.signal(Signal::STOP);
    }

    pub(super) fn go_on(&mut self, at: usize) {
        if self.is_stopped(at) {
            self.members[at].signal(Signal::CONT);
            self.note_stop(at);
        }
    }

    fn note_stop(&mut self, at: usize) {
        let member = &mut self.members[at];
        if let Some(from) = member.stopped.take() {
            self.stops.push(Stopped {
                process: member.number,
                from,
                to: now(),
            });
        }
    }

    /// Tells all to enqueue no more, and waits until the queue is empty; how many jobs are left in it,
    /// as each of them sees it.
    pub(super) fn end(&mut self) -> Vec<usize> {
        for at in 0..self.members.len() {
            self.go_on(at);
        }
        for member in &mut self.members {
            member
                .child
                .stdin
                .as_mut()
                .unwrap()
                .write_all(b"end\n")
                .unwrap();
        }
        let lefts = self.members.iter_mut().map(|member| {
            let out = BufReader::new(member.child.stdout.take().unwrap());
            let (tell, told) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                for line in out.lines().map_while(Result::ok) {
                    if let Some(left) = line.strip_prefix("left ") {
                        let _ = tell.send(left.parse().unwrap());
                    }
                }
            });
            told
        });
        let lefts: Vec<std::sync::mpsc::Receiver<usize>> = lefts.collect();
        let until = std::time::Instant::now() + HANGS;
        let mut left = Vec::new();
        for (told, member) in lefts.into_iter().zip(&self.members) {
            let wait = until.saturating_duration_since(std::time::Instant::now());
            let told = told.recv_timeout(wait.max(secs(1)));
            left.push(told.unwrap_or_else(|why| {
                panic!("process {} does not come to its end: {why}", member.number)
            }));
        }
        left
    }
}
