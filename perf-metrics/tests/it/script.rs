//! Services and bodies that do what a script says.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Empty;
use tower::Service;

/// A panic that does not print.
pub(crate) fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("as the script says"))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    PanicInCall,
    Panic,
    Error,
    Respond(StatusCode),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    Data(usize),
    Trailers,
    Error,
    Panic,
}

/// What one request meets.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// Polls of the future that are pending before the answer.
    pub(crate) waits: usize,
    pub(crate) answer: Answer,
    pub(crate) body: Vec<Step>,
    /// Whether the body tells its length, and its end, as a buffered one does.
    pub(crate) buffered: bool,
}

impl Script {
    pub(crate) fn respond(status: StatusCode, body: Vec<Step>) -> Self {
        Self {
            waits: 0,
            answer: Answer::Respond(status),
            body,
            buffered: false,
        }
    }

    pub(crate) fn length(&self) -> u64 {
        length(self.body.iter())
    }
}

fn length<'a>(steps: impl Iterator<Item = &'a Step>) -> u64 {
    let data = steps.map(|step| match step {
        Step::Data(n) => *n as u64,
        _ => 0,
    });
    data.sum()
}

#[derive(Debug, Clone)]
pub(crate) struct Scripted;

impl Service<Request<Empty<Bytes>>> for Scripted {
    type Response = Response<ScriptBody>;
    type Error = &'static str;
    type Future = ScriptFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Empty<Bytes>>) -> Self::Future {
        let script: Script = request.extensions_mut().remove().unwrap();
        if script.answer == Answer::PanicInCall {
            panic_quietly();
        }
        ScriptFuture(script)
    }
}

#[derive(Debug)]
pub(crate) struct ScriptFuture(Script);

impl Future for ScriptFuture {
    type Output = Result<Response<ScriptBody>, &'static str>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.0.waits > 0 {
            self.0.waits -= 1;
            return Poll::Pending;
        }
        match &self.0.answer {
            Answer::PanicInCall | Answer::Panic => panic_quietly(),
            Answer::Error => Poll::Ready(Err("as the script says")),
            Answer::Respond(status) => {
                let mut response = Response::new(ScriptBody {
                    steps: self.0.body.iter().cloned().collect(),
                    buffered: self.0.buffered,
                });
                *response.status_mut() = *status;
                Poll::Ready(Ok(response))
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct ScriptBody {
    steps: VecDeque<Step>,
    buffered: bool,
}

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match self.steps.pop_front() {
            None => Poll::Ready(None),
            Some(Step::Wait) => Poll::Pending,
            Some(Step::Data(n)) => Poll::Ready(Some(Ok(Frame::data(vec![b'x'; n].into())))),
            Some(Step::Trailers) => Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new())))),
            Some(Step::Error) => Poll::Ready(Some(Err("as the script says"))),
            Some(Step::Panic) => panic_quietly(),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.buffered && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.buffered {
            SizeHint::with_exact(length(self.steps.iter()))
        } else {
            SizeHint::default()
        }
    }
}
