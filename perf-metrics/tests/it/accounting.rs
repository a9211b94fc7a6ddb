//! started = completed + aborted + panicked + errored + in flight, whatever happens.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, StreamBody};
use perf_metrics::timing::{ResponseFuture, TimedBody, Timing};
use perf_metrics::{Monitor, TimingLayer};
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};

use crate::exposition::Exposition;
use crate::script::{Answer, Script, ScriptBody, ScriptFuture, Scripted, Step};

/// How a request is expected to end.
type End = &'static str;
const COMPLETED: End = "completed";

/// A request under way.
enum Live {
    Future(Pin<Box<ResponseFuture<ScriptFuture>>>),
    Body(Pin<Box<TimedBody<ScriptBody>>>),
}

/// One request: what it meets, and after how many polls the client goes away.
#[derive(Debug, Clone)]
struct Case {
    script: Script,
    method: Method,
    polls: usize,
}

/// How the request ends by the rules, told from the script alone.
fn expected(case: &Case) -> End {
    let Case { script, polls, .. } = case;
    if script.answer == Answer::PanicInCall {
        return "headers/panic";
    }
    if *polls <= script.waits {
        return "headers/dropped";
    }
    let status = match script.answer {
        Answer::Panic | Answer::PanicInCall => return "headers/panic",
        Answer::Error => return "headers/error",
        Answer::Respond(status) => status,
    };
    let no_body = case.method == Method::HEAD || status == StatusCode::NO_CONTENT;
    if no_body || (script.buffered && script.body.is_empty()) {
        return COMPLETED;
    }
    let polls = polls - script.waits - 1;
    for (i, step) in script.body.iter().take(polls).enumerate() {
        match step {
            Step::Error => return "body/error",
            Step::Panic => return "body/panic",
            // Nothing follows trailers.
            Step::Trailers => return COMPLETED,
            _ if script.buffered && i + 1 == script.body.len() => return COMPLETED,
            _ => {}
        }
    }
    if polls > script.body.len() {
        return COMPLETED;
    }
    let sent: u64 = script.body[..polls]
        .iter()
        .map(|step| {
            if let Step::Data(n) = step {
                *n as u64
            } else {
                0
            }
        })
        .sum();
    if script.buffered && sent >= script.length() {
        COMPLETED
    } else {
        "body/dropped"
    }
}

/// Polls once. `None` when the request is over, by the end of its body, an error or a panic.
fn poll(live: Live) -> Option<Live> {
    let mut cx = Context::from_waker(Waker::noop());
    let next = catch_unwind(AssertUnwindSafe(|| match live {
        Live::Future(mut future) => match future.as_mut().poll(&mut cx) {
            Poll::Pending => Some(Live::Future(future)),
            Poll::Ready(Ok(response)) => Some(Live::Body(Box::pin(response.into_body()))),
            Poll::Ready(Err(_)) => None,
        },
        Live::Body(mut body) => match body.as_mut().poll_frame(&mut cx) {
            Poll::Pending => Some(Live::Body(body)),
            Poll::Ready(Some(Ok(_))) if body.is_end_stream() => None,
            Poll::Ready(Some(Ok(_))) => Some(Live::Body(body)),
            Poll::Ready(Some(Err(_)) | None) => None,
        },
    }));
    next.unwrap_or(None)
}

fn call(service: &mut Timing<Scripted>, case: &Case) -> Option<Live> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = case.method.clone();
    request.extensions_mut().insert(case.script.clone());
    let called = catch_unwind(AssertUnwindSafe(|| service.call(request)));
    called.ok().map(|future| Live::Future(Box::pin(future)))
}

/// What was counted, by end.
fn counted(text: &Exposition) -> BTreeMap<String, u64> {
    let mut ends = BTreeMap::new();
    for sample in text.samples("http_server_response_duration_seconds_count") {
        *ends.entry(COMPLETED.to_owned()).or_default() += sample.value as u64;
    }
    for sample in text.samples("http_server_requests_aborted_total") {
        let end = format!("{}/{}", sample.labels["phase"], sample.labels["reason"]);
        *ends.entry(end).or_default() += sample.value as u64;
    }
    ends.retain(|_, n| *n > 0);
    ends
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Wait),
        6 => (0..2000usize).prop_map(Step::Data),
        1 => Just(Step::Trailers),
        1 => Just(Step::Error),
        1 => Just(Step::Panic),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let answer = prop_oneof![
        1 => Just(Answer::PanicInCall),
        1 => Just(Answer::Panic),
        1 => Just(Answer::Error),
        6 => Just(Answer::Respond(StatusCode::OK)),
        1 => Just(Answer::Respond(StatusCode::NO_CONTENT)),
        1 => Just(Answer::Respond(StatusCode::INTERNAL_SERVER_ERROR)),
    ];
    let method = prop_oneof![4 => Just(Method::GET), 1 => Just(Method::HEAD)];
    let body = prop::collection::vec(step(), 0..6);
    (answer, method, body, 0..3usize, any::<bool>(), 0..12usize).prop_map(
        |(answer, method, body, waits, buffered, polls)| Case {
            script: Script {
                waits,
                answer,
                body,
                buffered,
            },
            method,
            polls,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_request_is_counted_exactly_once_whatever_becomes_of_it(
        cases in prop::collection::vec(case(), 1..12),
        seed in any::<u64>(),
    ) {
        let monitor = Monitor::builder().build().unwrap();
        let mut service = monitor.layer().layer(Scripted);
        let mut live: Vec<(Live, usize)> = Vec::new();
        let mut started = 0;
        let mut next = cases.iter();
        let mut turn = seed;
        loop {
            // Starts, polls and drops interleave at random.
            turn = turn.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let start = live.is_empty() || turn >> 62 == 0;
            let case = if start { next.next() } else { None };
            match case {
                Some(case) => {
                    started += 1;
                    live.extend(call(&mut service, case).map(|l| (l, case.polls)));
                }
                None if live.is_empty() => break,
                None => {
                    let (request, polls) = live.swap_remove((turn >> 33) as usize % live.len());
                    if let Some(polls) = polls.checked_sub(1)
                        && let Some(request) = poll(request)
                    {
                        live.push((request, polls));
                    }
                }
            }
            let requests = monitor.snapshot().requests;
            prop_assert_eq!(requests.count + requests.in_flight, started);
            prop_assert!(requests.in_flight <= live.len() as u64);
        }

        let mut ends = BTreeMap::new();
        for case in &cases {
            *ends.entry(expected(case).to_owned()).or_default() += 1;
        }
        prop_assert_eq!(counted(&Exposition::parse(&monitor.render())), ends);
        prop_assert_eq!(monitor.snapshot().requests.in_flight, 0);
    }
}

/// Runs one request to its end, or to `polls` polls, and says how it was counted.
fn run(script: Script, method: Method, polls: usize) -> Exposition {
    let monitor = Monitor::builder().build().unwrap();
    let mut service = monitor.layer().layer(Scripted);
    let case = Case {
        script,
        method,
        polls,
    };
    let mut live = call(&mut service, &case);
    for _ in 0..polls {
        live = live.and_then(poll);
    }
    drop(live);
    Exposition::parse(&monitor.render())
}

#[test]
fn a_body_is_one_sample_however_many_chunks_it_has() {
    let chunks = vec![Step::Data(1000); 5];
    let text = run(Script::respond(StatusCode::OK, chunks), Method::GET, 100);
    let size = "http_server_response_body_size_bytes";
    assert_eq!(text.sum(&format!("{size}_count")), 1.0);
    assert_eq!(text.sum(&format!("{size}_sum")), 5000.0);
}

#[test]
fn a_body_dropped_half_way_has_headers_but_no_end() {
    let chunks = vec![Step::Data(1000); 5];
    let text = run(Script::respond(StatusCode::OK, chunks), Method::GET, 3);
    assert_eq!(text.sum("http_server_request_duration_seconds_count"), 1.0);
    assert_eq!(text.sum("http_server_response_duration_seconds_count"), 0.0);
    assert_eq!(
        counted(&text),
        BTreeMap::from([("body/dropped".to_owned(), 1)])
    );
}

#[test]
fn a_body_of_announced_length_is_complete_after_its_last_byte() {
    // The last frame is not the end of the stream: trailers could follow, and a server that
    // announced the length does not wait for them.
    let script = Script {
        buffered: true,
        ..Script::respond(StatusCode::OK, vec![Step::Data(10), Step::Trailers])
    };
    let text = run(script, Method::GET, 2);
    assert_eq!(counted(&text), BTreeMap::from([(COMPLETED.to_owned(), 1)]));
}

#[test]
fn a_head_request_is_complete_with_its_headers_though_its_body_is_dropped() {
    let script = Script::respond(StatusCode::OK, vec![Step::Data(10)]);
    let text = run(script, Method::HEAD, 1);
    assert_eq!(counted(&text), BTreeMap::from([(COMPLETED.to_owned(), 1)]));
    assert_eq!(text.sum("http_server_response_body_size_bytes_sum"), 0.0);
}

#[test]
fn a_future_dropped_before_its_first_poll_was_in_flight_and_is_aborted() {
    let monitor = Monitor::builder().build().unwrap();
    let mut service = monitor.layer().layer(Scripted);
    let case = Case {
        script: Script::respond(StatusCode::OK, vec![]),
        method: Method::GET,
        polls: 0,
    };
    let live = call(&mut service, &case);
    assert_eq!(monitor.snapshot().requests.in_flight, 1);
    drop(live);
    let requests = monitor.snapshot().requests;
    assert_eq!((requests.in_flight, requests.aborted), (0, 1));
}

#[test]
fn a_layer_for_another_recorder_leaves_the_monitor_alone() {
    let monitor = Monitor::builder().build().unwrap();
    let mut service = TimingLayer::with_recorder(metrics::NoopRecorder).layer(Scripted);
    let case = Case {
        script: Script::respond(StatusCode::OK, vec![]),
        method: Method::GET,
        polls: 0,
    };
    drop(call(&mut service, &case));
    assert_eq!(monitor.snapshot().requests.count, 0);
}

#[test]
fn a_response_that_http_sends_without_a_body_is_complete_though_its_body_is_dropped() {
    let completed = BTreeMap::from([(COMPLETED.to_owned(), 1)]);
    let dropped = BTreeMap::from([("body/dropped".to_owned(), 1)]);
    for (method, status, end) in [
        (Method::GET, StatusCode::SWITCHING_PROTOCOLS, &completed),
        (Method::GET, StatusCode::NO_CONTENT, &completed),
        (Method::GET, StatusCode::NOT_MODIFIED, &completed),
        (Method::CONNECT, StatusCode::OK, &completed),
        (Method::CONNECT, StatusCode::FORBIDDEN, &dropped),
        (Method::GET, StatusCode::OK, &dropped),
    ] {
        let script = Script::respond(status, vec![Step::Data(10)]);
        let text = run(script, method.clone(), 1);
        assert_eq!(counted(&text), *end, "{method} {status}");
    }
}

#[test]
fn a_body_whose_header_announced_its_length_is_complete_after_its_last_byte() {
    for (length, count) in [("10", 1), ("11", 0), ("many", 0)] {
        let monitor = Monitor::builder().build().unwrap();
        let service = service_fn(|_: Request<Empty<Bytes>>| {
            let frame = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"0123456789")));
            let body = StreamBody::new(stream::iter([frame]));
            let response = Response::builder().header("content-length", length);
            std::future::ready(response.body(body))
        });
        let mut service = monitor.layer().layer(service);
        let response = service.call(Request::new(Empty::new())).now_or_never();
        let mut body = response.unwrap().unwrap().into_body();
        assert!(body.frame().now_or_never().unwrap().unwrap().is_ok());
        drop(body);
        let requests = monitor.snapshot().requests;
        assert_eq!(
            (requests.count, requests.aborted),
            (1, 1 - count),
            "{length}"
        );
    }
}

#[test]
fn the_body_tells_its_length_and_its_end_as_the_inner_one_does() {
    let monitor = Monitor::builder().build().unwrap();
    let mut service = monitor.layer().layer(Scripted);
    let script = Script {
        buffered: true,
        ..Script::respond(StatusCode::OK, vec![Step::Data(10)])
    };
    let case = Case {
        script,
        method: Method::GET,
        polls: 2,
    };
    let Some(Live::Body(mut body)) = call(&mut service, &case).and_then(poll) else {
        panic!("there is a body");
    };
    assert_eq!(body.size_hint().exact(), Some(10));
    assert!(!body.is_end_stream());
    let frame = body
        .as_mut()
        .poll_frame(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(frame, Poll::Ready(Some(Ok(_)))));
    assert!(body.is_end_stream());
}

#[test]
fn a_request_that_ends_while_the_snapshot_is_taken_is_not_missed() {
    let monitor = Monitor::builder().build().unwrap();
    let mut service = monitor.layer().layer(Scripted);
    let case = Case {
        script: Script::respond(StatusCode::OK, vec![]),
        method: Method::GET,
        polls: 0,
    };
    let (send, receive) = std::sync::mpsc::sync_channel::<(Option<Live>, u32)>(0);
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (request, spins) in receive {
                // At any moment of the snapshot.
                (0..spins).for_each(|_| std::hint::spin_loop());
                drop(request);
                done.send(()).unwrap();
            }
        });
        for started in 1..=10_000 {
            let request = call(&mut service, &case);
            send.send((request, (started * 7919 % 5000) as u32))
                .unwrap();
            let requests = monitor.snapshot().requests;
            assert!(
                requests.count + requests.in_flight >= started,
                "{requests:?}"
            );
            wait.recv().unwrap();
        }
        drop(send);
    });
}
