use metrics::{Recorder, counter, gauge, histogram};

use super::{Alias, Derived, Format, Kind};
use crate::MonitorRecorder;

fn rendered(record: impl FnOnce()) -> String {
    let recorder = MonitorRecorder::new();
    metrics::with_local_recorder(&recorder, record);
    recorder.render(Format::Prometheus, Vec::new(), &[])
}

#[test]
fn a_counter_is_one_line_below_its_type() {
    let text = rendered(|| counter!("jobs_total", "queue" => "mail").increment(3));
    assert_eq!(
        text,
        "# TYPE jobs_total counter\njobs_total{queue=\"mail\"} 3\n"
    );
}

#[test]
fn a_gauge_shows_numbers_that_are_not_finite() {
    let text = rendered(|| gauge!("g").set(f64::INFINITY));
    assert!(text.ends_with("g +Inf\n"), "{text}");
    let text = rendered(|| gauge!("g").set(f64::NAN));
    assert!(text.ends_with("g NaN\n"), "{text}");
}

#[test]
fn a_histogram_has_cumulative_buckets_a_sum_and_a_count() {
    let text = rendered(|| {
        for value in [0.005, 0.006, 0.3, 11.0] {
            histogram!("t_seconds").record(value);
        }
    });
    for line in [
        "t_seconds_bucket{le=\"0.005\"} 1",
        "t_seconds_bucket{le=\"0.01\"} 2",
        "t_seconds_bucket{le=\"0.5\"} 3",
        "t_seconds_bucket{le=\"10.0\"} 3",
        "t_seconds_bucket{le=\"+Inf\"} 4",
        "t_seconds_count 4",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
}

#[test]
fn labels_are_escaped() {
    let text = rendered(|| counter!("c", "l" => "a\\n\"b\nc").increment(1));
    assert!(text.ends_with("c{l=\"a\\\\n\\\"b\\nc\"} 1\n"), "{text}");
}

#[test]
fn names_that_prometheus_does_not_know_are_made_valid() {
    let text = rendered(|| counter!("1http.server-time", "http.route" => "/").increment(1));
    assert!(
        text.ends_with("_http_server_time{http_route=\"/\"} 1\n"),
        "{text}"
    );
}

#[test]
fn a_metric_or_label_without_a_name_gets_one() {
    let text = rendered(|| counter!("", "" => "v").increment(1));
    assert_eq!(text, "# TYPE _ counter\n_{_=\"v\"} 1\n");
}

#[test]
fn a_label_that_comes_twice_is_shown_once() {
    let text = rendered(|| counter!("c", "a.b" => "1", "a_b" => "2", "c" => "3").increment(1));
    assert_eq!(text, "# TYPE c counter\nc{a_b=\"1\",c=\"3\"} 1\n");
}

#[test]
fn labels_that_are_prometheus_own_are_renamed() {
    let text = rendered(|| {
        counter!("c", "__name__" => "x", "le" => "y").increment(1);
        histogram!("h", "le" => "z").record(1.0);
    });
    assert!(
        text.contains("c{exported___name__=\"x\",le=\"y\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("h_bucket{exported_le=\"z\",le=\"1.0\"} 1\n"),
        "{text}"
    );
}

#[test]
fn a_name_used_for_two_kinds_keeps_one() {
    let text = rendered(|| {
        counter!("x").increment(1);
        gauge!("x").set(2.0);
    });
    assert_eq!(text, "# TYPE x gauge\nx 2\n");
}

#[test]
fn a_description_is_one_line_of_help() {
    let recorder = MonitorRecorder::new();
    recorder.describe_counter("c".into(), None, "first\nsecond".into());
    metrics::with_local_recorder(&recorder, || counter!("c").increment(1));
    assert!(
        recorder
            .render(Format::Prometheus, Vec::new(), &[])
            .starts_with("# HELP c first\\nsecond\n")
    );
}

#[test]
fn series_that_differ_in_the_order_of_their_labels_are_one() {
    let text = rendered(|| {
        counter!("c", "a" => "1", "b" => "2").increment(3);
        counter!("c", "b" => "2", "a" => "1").increment(4);
        histogram!("h", "a" => "1", "b" => "2").record(1.0);
        histogram!("h", "b" => "2", "a" => "1").record(2.0);
    });
    assert!(
        text.contains("# TYPE c counter\nc{a=\"1\",b=\"2\"} 7\n"),
        "{text}"
    );
    assert!(text.contains("h_count{a=\"1\",b=\"2\"} 2\n"), "{text}");
    assert!(
        text.contains("le=\"1.0\"} 1\n") && text.contains("le=\"2.0\"} 2\n"),
        "{text}"
    );
    assert_eq!(text.matches("h_sum").count(), 1);
}

#[test]
fn a_metric_of_the_registry_goes_before_one_derived() {
    let recorder = MonitorRecorder::new();
    metrics::with_local_recorder(&recorder, || gauge!("mine").set(1.0));
    let derived = |name, value| Derived::one(name, Kind::Gauge, "Help.", value);
    let derived = vec![derived("mine", 2.0), derived("theirs", 2.0)];
    let text = recorder.render(Format::Prometheus, derived, &[]);
    assert_eq!(
        text,
        "# TYPE mine gauge\nmine 1\n# HELP theirs Help.\n# TYPE theirs gauge\ntheirs 2\n"
    );
}

#[test]
fn an_alias_has_all_series_of_what_it_is_of() {
    let recorder = MonitorRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        gauge!("old", "a" => "1").set(1.0);
        gauge!("old", "a" => "2").set(2.0);
        gauge!("taken").set(3.0);
    });
    let alias = |name, of| Alias {
        name,
        of,
        help: "Help.",
    };
    let aliases = [
        alias("new", "old"),
        alias("none", "nothing"),
        alias("taken", "old"),
    ];
    let text = recorder.render(Format::Prometheus, Vec::new(), &aliases);
    assert_eq!(
        text,
        "# HELP new Help.\n# TYPE new gauge\nnew{a=\"1\"} 1\nnew{a=\"2\"} 2\n\
         # TYPE old gauge\nold{a=\"1\"} 1\nold{a=\"2\"} 2\n# TYPE taken gauge\ntaken 3\n"
    );
}
