use std::cell::Cell;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::api::messages_of;
use crate::args::{Build, Size};
use crate::protocol::Progress;

/// Seconds between two lines where standard error is not a terminal.
const LINE_EVERY: f64 = 2.0;

/// How far a rush is: a bar on a terminal, a line now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Bar {
    build: Build,
    size: Size,
    bar: Option<ProgressBar>,
    next_line: Cell<f64>,
}

impl Bar {
    pub(crate) fn new(build: Build, size: Size) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(messages_of(size));
            if let Ok(style) = ProgressStyle::with_template(
                "{prefix:>6} {wide_bar:.cyan} {pos:>4}/{len} messages  {msg}",
            ) {
                bar.set_style(style);
            }
            bar.set_prefix(build.to_string());
            bar
        });
        Self {
            build,
            size,
            bar,
            next_line: Cell::new(0.0),
        }
    }

    /// Says what is being done.
    pub(crate) fn say(&self, what: &'static str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(what);
                bar.tick();
            }
            None => eprintln!("{:>6}  {what}", self.build),
        }
    }

    /// Shows how far the rush is.
    pub(crate) fn show(&self, progress: &Progress) {
        let Progress {
            seconds,
            saved,
            messages,
            refused,
            leaderboards,
        } = *progress;
        let text = format!(
            "{saved}/{} users saved  {leaderboards} leaderboards  {refused} refused  {seconds:.1} s",
            self.size.users
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(messages as u64);
                bar.set_message(text);
            }
            None if seconds >= self.next_line.get() => {
                self.next_line.set(seconds + LINE_EVERY);
                let all = messages_of(self.size);
                eprintln!("{:>6}  {messages}/{all} messages  {text}", self.build);
            }
            None => {}
        }
    }

    /// Clears the bar away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
