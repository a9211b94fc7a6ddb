//! Whether budgets are kept, by what was recorded.

use std::time::Duration;

use metrics::{counter, histogram};
use perf_metrics::{
    Budget, BuildError, Limit, Monitor, MonitorBuilder, RouteReport, Thresholds, Verdict,
};

use crate::exposition::Exposition;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Requests to a route that took this long, in milliseconds, and were answered with a status.
fn requests(method: &'static str, route: &'static str, status: &'static str, times: &[u64]) {
    for name in ["request", "response"] {
        let times_of = histogram!(
            format!("http_server_{name}_duration_seconds"),
            "http_request_method" => method, "http_route" => route,
            "http_response_status_code" => status
        );
        times.iter().for_each(|time| times_of.record(ms(*time)));
    }
}

fn reports(builder: MonitorBuilder, record: impl FnOnce()) -> Vec<RouteReport> {
    let monitor = builder.build().unwrap();
    metrics::with_local_recorder(&monitor.recorder(), record);
    monitor.budgets()
}

fn one(builder: MonitorBuilder, record: impl FnOnce()) -> RouteReport {
    let mut reports = reports(builder, record);
    assert_eq!(reports.len(), 1, "{reports:?}");
    reports.remove(0)
}

fn orders(budget: impl FnOnce(Budget) -> Budget) -> MonitorBuilder {
    Monitor::builder().budget(budget(Budget::route("GET /orders/{id}")))
}

#[test]
fn a_time_is_kept_up_to_the_last_request_that_may_exceed_it() {
    // Nowhere near a bound of OpenTelemetry's, and no further apart than a cell of the recorder.
    let builder = || orders(|it| it.p95(ms(200)).p99(ms(201)));
    let record = |slow: usize| {
        move || {
            let mut times = vec![200; 200 - slow];
            times.extend(vec![202; slow]);
            requests("GET", "/orders/{id}", "200", &times);
        }
    };
    let verdicts = |slow| {
        one(builder(), record(slow))
            .limits
            .iter()
            .map(|it| it.verdict)
            .collect::<Vec<_>>()
    };
    assert_eq!(verdicts(2), [Verdict::Kept, Verdict::Kept]);
    assert_eq!(verdicts(3), [Verdict::Kept, Verdict::Broken]);
    assert_eq!(verdicts(10), [Verdict::Kept, Verdict::Broken]);
    assert_eq!(verdicts(11), [Verdict::Broken, Verdict::Broken]);

    let report = one(builder(), record(3));
    assert_eq!((report.count, report.error_ratio), (200, Some(0.0)));
    assert_eq!(report.verdict, Verdict::Broken);
    let p99 = report.limits[1];
    assert_eq!(
        (p99.limit, p99.at_most, p99.allowed_ratio),
        (Limit::P99, 0.201, 0.01)
    );
    assert_eq!(p99.exceeded_ratio, Some(0.015));
    let p50 = report.quantiles.p50_seconds.unwrap();
    assert!((0.19..0.21).contains(&p50), "{p50}");
}

#[test]
fn all_statuses_count_for_the_times_and_5xx_and_panics_for_the_errors() {
    let builder = || orders(|it| it.p50(ms(100)).errors(0.1));
    let record = |errors: usize| {
        move || {
            requests("GET", "/orders/{id}", "200", &[10; 5]);
            requests("GET", "/orders/{id}", "404", &[150; 13]);
            requests("GET", "/orders/{id}", "503", &vec![10; errors]);
            for (reason, n) in [("panic", 1), ("dropped", 1)] {
                counter!(
                    "http_server_requests_aborted_total",
                    "http_request_method" => "GET", "http_route" => "/orders/{id}",
                    "phase" => "headers", "reason" => reason
                )
                .increment(n);
            }
        }
    };
    let kept = one(builder(), record(1));
    assert_eq!((kept.count, kept.error_ratio), (21, Some(2.0 / 21.0)));
    let verdicts = [kept.limits[0].verdict, kept.limits[1].verdict];
    assert_eq!(verdicts, [Verdict::Broken, Verdict::Kept]);
    assert_eq!(kept.limits[0].exceeded_ratio, Some(13.0 / 19.0));
    let broken = one(builder(), record(2));
    assert_eq!(broken.error_ratio, Some(3.0 / 22.0));
    assert_eq!(broken.limits[1].verdict, Verdict::Broken);
}

#[test]
fn too_few_requests_are_not_judged() {
    let builder = || orders(|it| it.p95(ms(100)).errors(0.04));
    let verdicts = |good, bad| {
        let report = one(builder(), || {
            requests("GET", "/orders/{id}", "200", &vec![50; good]);
            requests("GET", "/orders/{id}", "500", &vec![500; bad]);
        });
        let limits = report.limits.iter();
        limits.map(|it| it.verdict).collect::<Vec<_>>()
    };
    for (good, bad) in [(18, 1), (0, 1), (19, 0)] {
        let expected = [Verdict::TooFewSamples, Verdict::TooFewSamples];
        assert_eq!(verdicts(good, bad), expected, "{good} {bad}");
    }
    assert_eq!(verdicts(19, 1), [Verdict::Kept, Verdict::TooFewSamples]);
    assert_eq!(verdicts(24, 1), [Verdict::Kept, Verdict::Kept]);
    // As many as these are too many, however many more there will be to judge by.
    for (good, bad) in [(0, 2), (17, 2), (0, 99)] {
        let expected = [Verdict::Broken, Verdict::Broken];
        assert_eq!(verdicts(good, bad), expected, "{good} {bad}");
    }
    let few = one(builder(), || requests("GET", "/orders/{id}", "200", &[1]));
    assert_eq!(few.verdict, Verdict::TooFewSamples);
}

/// A hang that all clients give up on was once a budget that is kept.
#[test]
fn a_budget_is_not_kept_by_requests_that_nobody_answers() {
    let of = |answered: usize, dropped: u64, phase: &'static str| {
        one(orders(|it| it.p95(ms(200)).errors(0.05)), || {
            requests("GET", "/orders/{id}", "200", &vec![10; answered]);
            counter!(
                "http_server_requests_aborted_total",
                "http_request_method" => "GET", "http_route" => "/orders/{id}",
                "phase" => phase, "reason" => "dropped"
            )
            .increment(dropped);
        })
    };
    let hung = of(0, 1000, "headers");
    assert_eq!(
        (hung.verdict, hung.unanswered_ratio),
        (Verdict::Unanswered, Some(1.0))
    );
    assert_eq!(hung.error_ratio, Some(0.0));
    assert_eq!(of(80, 20, "headers").verdict, Verdict::Kept);
    let partly = of(79, 21, "headers");
    let verdicts: Vec<_> = partly.limits.iter().map(|it| it.verdict).collect();
    assert_eq!(verdicts, [Verdict::Unanswered, Verdict::Unanswered]);
    assert_eq!(of(79, 21, "body").verdict, Verdict::Kept);
    assert_eq!(of(0, 9, "headers").verdict, Verdict::TooFewSamples);
}

#[test]
fn a_budget_goes_before_that_for_any_method_and_that_before_the_default() {
    let builder = Monitor::builder()
        .budget(Budget::route("/a").p95(ms(2)))
        .budget(Budget::route("GET /a").p95(ms(1)))
        .budget(Budget::route("/events"))
        .default_budget(Budget::any().p95(ms(3)));
    let reports = reports(builder, || {
        for (method, route) in [
            ("GET", "/a"),
            ("PUT", "/a"),
            ("GET", "/b"),
            ("GET", "/events"),
        ] {
            requests(method, route, "200", &[1]);
        }
    });
    let found = |report: &RouteReport| {
        let limit = report.limits.first().map(|limit| limit.at_most);
        (report.method.clone(), report.route.clone(), limit)
    };
    let found: Vec<_> = reports.iter().map(found).collect();
    let expected = [
        ("GET", "/a", Some(0.001)),
        ("PUT", "/a", Some(0.002)),
        ("GET", "/b", Some(0.003)),
        ("GET", "/events", None),
    ];
    let expected = expected.map(|(m, r, limit)| (m.to_owned(), r.to_owned(), limit));
    assert_eq!(found, expected);
    assert_eq!(reports[3].verdict, Verdict::Kept);
}

#[test]
fn without_any_budget_there_is_the_default_of_the_field() {
    let report = one(Monitor::builder(), || requests("GET", "/", "200", &[1]));
    let limits: Vec<_> = report
        .limits
        .iter()
        .map(|it| (it.limit, it.at_most))
        .collect();
    assert_eq!(
        limits,
        [(Limit::P95, 0.5), (Limit::P99, 1.0), (Limit::Errors, 0.01)]
    );
}

#[test]
fn the_times_of_budgets_are_buckets_of_the_times_to_the_headers_alone() {
    let builder = orders(|it| it.p95(ms(200)).p99(ms(2_000)));
    let monitor = builder.build().unwrap();
    let times = [199, 200, 201, 2_500];
    metrics::with_local_recorder(&monitor.recorder(), || {
        requests("GET", "/orders/{id}", "200", &times);
    });
    let text = monitor.render();
    let buckets = |name: &str, bound: &str| {
        let start = format!("http_server_{name}_duration_seconds_bucket{{");
        let end = format!("le=\"{bound}\"}} ");
        let mut lines = text.lines().filter(|line| line.starts_with(&start));
        let line = lines.find_map(|line| line.split_once(&end));
        line.map(|(_, within)| within.to_owned())
    };
    for (bound, within) in [("0.2", "2"), ("0.25", "3"), ("2.0", "3"), ("2.5", "4")] {
        assert_eq!(
            buckets("request", bound).as_deref(),
            Some(within),
            "{bound}"
        );
    }
    assert_eq!(buckets("response", "0.25").as_deref(), Some("3"));
    assert_eq!(buckets("response", "0.2"), None);
    let text = Exposition::parse(&text);
    assert_eq!(text.sum("http_server_request_duration_seconds_count"), 4.0);
}

/// Fifty routes with times of their own once gave each series 150 more buckets.
#[test]
fn a_time_is_a_bucket_of_the_routes_that_it_is_for() {
    let mut builder = Monitor::builder().default_budget(Budget::any().p95(ms(333)));
    let routes: Vec<&'static str> = (0..50).map(|i| &*format!("/{i}").leak()).collect();
    for (i, route) in (0..).zip(&routes) {
        let budget = Budget::route(route).p50(ms(101 + i)).p95(ms(201 + i));
        builder = builder.budget(budget);
    }
    let monitor = builder.build().unwrap();
    metrics::with_local_recorder(&monitor.recorder(), || {
        requests("GET", "/other", "200", &[100, 333, 334]);
        for (i, route) in (0..).zip(&routes) {
            let times = [101 + i, 102 + i, 201 + i, 202 + i];
            requests("GET", route, "200", &times);
        }
    });
    let text = Exposition::parse(&monitor.render());
    let bounds = |route: &str| {
        let buckets = text.samples("http_server_request_duration_seconds_bucket");
        let buckets = buckets.filter(|it| it.labels["http_route"] == route);
        let buckets = buckets.filter(|it| it.labels["http_response_status_code"] == "200");
        buckets
            .map(|it| (it.labels["le"].clone(), it.value))
            .collect::<Vec<_>>()
    };
    // OpenTelemetry's, and the infinite one.
    assert_eq!(bounds("/other").len(), 15 + 1);
    assert_eq!(bounds("/7").len(), 15 + 3);
    assert!(bounds("/7").contains(&("0.108".to_owned(), 1.0)));
    assert!(bounds("/7").contains(&("0.208".to_owned(), 3.0)));
    assert!(bounds("/other").contains(&("0.333".to_owned(), 2.0)));
    let reports = monitor.budgets();
    let seven = reports.iter().find(|it| it.route == "/7").unwrap();
    let exceeded: Vec<_> = seven.limits.iter().map(|it| it.exceeded_ratio).collect();
    assert_eq!(exceeded, [Some(0.75), Some(0.25)]);
    // All routes together, though their buckets differ.
    let all = monitor.snapshot().requests;
    assert_eq!(all.count, 203);
    let p95 = all.quantiles.p95_seconds.unwrap();
    assert!((0.23..0.26).contains(&p95), "{p95}");
}

#[test]
fn a_report_is_json_for_people() {
    let report = one(orders(|it| it.p95(ms(200))), || {
        requests("GET", "/orders/{id}", "200", &[100; 20]);
    });
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        (&json["verdict"], &json["count"]),
        (&"kept".into(), &20.into())
    );
    assert_eq!(json["limits"][0]["limit"], "p95");
    assert_eq!(json["limits"][0]["at_most"], 0.2);
    assert!(json["p99_seconds"].is_number());
}

#[test]
fn budgets_that_cannot_be_are_refused_with_a_remedy() {
    fn refused(builder: MonitorBuilder, expected: &BuildError, remedy: &str) {
        let error = builder.build().unwrap_err();
        assert_eq!(&error, expected);
        assert!(error.to_string().contains(remedy), "{error}");
    }
    let of = |budget| Monitor::builder().budget(budget);
    let text = str::to_owned;

    for (budget, shown) in [
        (Budget::any(), "any route"),
        (Budget::route(""), ""),
        (Budget::route("GET "), "GET "),
    ] {
        let expected = BuildError::BudgetWithoutRoute(text(shown));
        refused(of(budget), &expected, "\"GET /orders/{id}\"");
    }
    for route in ["get /", "BREW /pots/{id}"] {
        let expected = BuildError::BudgetMethod(text(route));
        refused(of(Budget::route(route)), &expected, "in capitals");
    }
    let twice = of(Budget::route("GET /").p95(ms(1))).budget(Budget::route("GET  / ").p99(ms(2)));
    refused(
        twice,
        &BuildError::DuplicateBudget(text("GET /")),
        "keep one",
    );
    let default = Monitor::builder().default_budget(Budget::route("/a").p95(ms(1)));
    refused(
        default,
        &BuildError::DefaultBudget(text("/a")),
        "Budget::any",
    );
    let zero = BuildError::BudgetTime {
        budget: text("/"),
        limit: "p99",
    };
    refused(of(Budget::route("/").p99(ms(0))), &zero, "above zero");
    let order = BuildError::BudgetOrder {
        budget: text("any route"),
        lower: "p50",
        higher: "p99",
    };
    let builder = Monitor::builder().default_budget(Budget::any().p99(ms(1)).p50(ms(2)));
    refused(builder, &order, "shorten p50");
    for ratio in [0.0, 1.0, -0.1, 1.5, f64::INFINITY] {
        let expected = BuildError::BudgetErrors {
            budget: text("/"),
            ratio,
        };
        refused(of(Budget::route("/").errors(ratio)), &expected, "below 1");
    }
    assert!(of(Budget::route("/").errors(f64::NAN)).build().is_err());
}

#[test]
fn thresholds_that_cannot_be_are_refused() {
    let thresholds = Thresholds::default;
    let second = Duration::from_secs;
    for (name, wrong) in [
        ("error_ratio", thresholds().error_ratio(0.0)),
        ("unanswered_ratio", thresholds().unanswered_ratio(0.5, 0.2)),
        ("memory_usage", thresholds().memory_usage(0.9, 0.8)),
        ("memory_usage", thresholds().memory_usage(75.0, 85.0)),
        ("pool_usage", thresholds().pool_usage(1.0)),
        ("queue_depth", thresholds().queue_depth(50, 20)),
        ("queue_age", thresholds().queue_age(second(2), second(1))),
        ("cache_hit_ratio", thresholds().cache_hit_ratio(0.7, 0.8)),
    ] {
        let error = Monitor::builder().thresholds(wrong).build().unwrap_err();
        let BuildError::Threshold { name: found, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(found, name);
    }
    let right = thresholds().memory_usage(0.5, 0.5).queue_depth(0, 0);
    assert!(Monitor::builder().thresholds(right).build().is_ok());
}
