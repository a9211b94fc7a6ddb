//! Routes and methods in a bounded number of series.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::routing::{any, get};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use perf_metrics::snapshot::Route;
use perf_metrics::{Monitor, RequestHead};
use tower::ServiceExt;

use crate::exposition::Exposition;

async fn send(app: &Router, method: &str, path: &str) -> StatusCode {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    response.into_body().collect().await.unwrap();
    status
}

fn routes(monitor: &Monitor) -> BTreeMap<String, Route> {
    let routes = monitor.snapshot().requests.routes.into_iter();
    routes
        .map(|r| (format!("{} {}", r.method, r.route), r))
        .collect()
}

fn app(monitor: &Monitor) -> Router {
    let items = Router::new().route(
        "/{id}",
        get(|Path(id): Path<u64>| async move { id.to_string() }),
    );
    Router::new()
        .route("/users/{id}", any(|| async { "a user" }))
        .route("/users/{id}/posts", get(|| async { "posts" }))
        .nest("/items", items)
        .layer(monitor.layer())
        .merge(monitor.router())
}

#[tokio::test]
async fn the_label_is_the_route_that_matched_not_the_path() {
    let monitor = Monitor::builder().build().unwrap();
    let app = app(&monitor);
    for id in 0..10 {
        send(&app, "GET", &format!("/users/{id}")).await;
        send(&app, "PUT", &format!("/users/{id}?x={id}")).await;
        send(&app, "GET", &format!("/items/{id}")).await;
    }
    let routes = routes(&monitor);
    let names: Vec<_> = routes.keys().collect();
    assert_eq!(
        names,
        ["GET /items/{id}", "GET /users/{id}", "PUT /users/{id}"]
    );
    assert!(routes.values().all(|route| route.count == 10));
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let monitor = Monitor::builder().build().unwrap();
    let app = app(&monitor);
    assert_eq!(send(&app, "GET", "/items/1").await, StatusCode::OK);
    assert_eq!(send(&app, "GET", "/items/x").await, StatusCode::BAD_REQUEST);
    assert_eq!(
        send(&app, "POST", "/items/1").await,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let text = Exposition::parse(&monitor.render());
    let counts = text.samples("http_server_response_duration_seconds_count");
    let found: BTreeSet<_> = counts
        .map(|s| {
            assert_eq!(s.labels["http_route"], "/items/{id}");
            (
                s.labels["http_request_method"].as_str(),
                s.labels["http_response_status_code"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        found,
        BTreeSet::from([("GET", "200"), ("GET", "400"), ("POST", "405")])
    );
}

#[tokio::test]
async fn a_hundred_thousand_random_paths_are_one_series() {
    let monitor = Monitor::builder().build().unwrap();
    let app = app(&monitor);
    send(&app, "GET", "/nothing").await;
    let before = monitor.render().lines().count();
    for i in 0..100_000u64 {
        let path = format!("/{:x}/{i}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert_eq!(send(&app, "GET", &path).await, StatusCode::NOT_FOUND);
    }
    assert_eq!(monitor.render().lines().count(), before);
    let routes = routes(&monitor);
    assert_eq!(routes.len(), 1);
    assert_eq!(routes["GET _UNMATCHED"].count, 100_001);
}

#[tokio::test]
async fn unmatched_requests_are_counted_once_however_the_monitors_router_is_merged() {
    type Build = fn(Router, &Monitor) -> Router;
    let builds: [(&str, Build); 4] = [
        ("layer, merge", |app, m| {
            app.layer(m.layer()).merge(m.router())
        }),
        ("merge, layer", |app, m| {
            app.merge(m.router()).layer(m.layer())
        }),
        ("merged into", |app, m| {
            m.router().merge(app.layer(m.layer()))
        }),
        ("own fallback", |app, m| {
            app.fallback(|| async { StatusCode::NOT_FOUND })
                .layer(m.layer())
                .merge(m.router())
        }),
    ];
    for (name, build) in builds {
        let monitor = Monitor::builder().build().unwrap();
        let app = Router::new().route("/users", get(|| async { "users" }));
        let app = build(app, &monitor);
        assert_eq!(send(&app, "GET", "/nothing").await, StatusCode::NOT_FOUND);
        let routes = routes(&monitor);
        assert_eq!(routes.len(), 1, "{name}");
        assert_eq!(routes["GET _UNMATCHED"].count, 1, "{name}");
    }
}

#[tokio::test]
async fn unknown_methods_are_one_series() {
    let monitor = Monitor::builder().build().unwrap();
    let app = app(&monitor);
    for i in 0..1000 {
        assert_eq!(
            send(&app, &format!("BREW{i}"), "/users/1").await,
            StatusCode::OK
        );
    }
    let routes = routes(&monitor);
    assert_eq!(routes.len(), 1);
    assert_eq!(routes["_OTHER /users/{id}"].count, 1000);
}

#[tokio::test]
async fn routes_beyond_the_limit_are_one_series() {
    fn path<'a>(request: RequestHead<'a>) -> Option<Cow<'a, str>> {
        Some(request.uri().path().into())
    }
    let builders = [
        Monitor::builder().max_routes(10).route_label(path),
        Monitor::builder().route_label(path).max_routes(10),
    ];
    for builder in builders {
        let monitor = builder.build().unwrap();
        let app = Router::new()
            .fallback(|| async { "anything" })
            .layer(monitor.layer());
        for i in 0..1000 {
            send(&app, "GET", &format!("/{i}")).await;
        }
        // Those that are known stay known.
        send(&app, "GET", "/3").await;
        let routes = routes(&monitor);
        assert_eq!(routes.len(), 11);
        assert_eq!(routes["GET _OVERFLOW"].count, 990);
        assert_eq!(routes["GET /3"].count, 2);
    }
}

#[tokio::test]
async fn a_request_that_two_monitors_see_is_counted_in_both() {
    let (one, two) = (Monitor::builder().build(), Monitor::builder().build());
    let (one, two) = (one.unwrap(), two.unwrap());
    let app = Router::new().layer(one.layer()).layer(two.layer());
    assert_eq!(send(&app, "GET", "/nothing").await, StatusCode::NOT_FOUND);
    for monitor in [one, two] {
        assert_eq!(routes(&monitor)["GET _UNMATCHED"].count, 1);
    }
}

#[tokio::test]
async fn several_layers_of_a_monitor_share_its_routes() {
    let monitor = Monitor::builder().max_routes(1).build().unwrap();
    let one = Router::new()
        .route("/one", get(|| async {}))
        .layer(monitor.layer());
    let two = Router::new()
        .route("/two", get(|| async {}))
        .layer(monitor.layer());
    let app = one.merge(two);
    send(&app, "GET", "/one").await;
    send(&app, "GET", "/two").await;
    let names: Vec<_> = routes(&monitor).into_keys().collect();
    assert_eq!(names, ["GET /one", "GET _OVERFLOW"]);
}

#[tokio::test]
async fn the_monitors_own_endpoints_are_not_timed() {
    let monitor = Monitor::builder().build().unwrap();
    let app = app(&monitor);
    for path in ["/metrics", "/health", "/monitoring/stats"] {
        assert_eq!(send(&app, "GET", path).await, StatusCode::OK);
    }
    assert_eq!(monitor.snapshot().requests.count, 0);
}

#[tokio::test]
async fn routers_that_come_and_go_are_not_taken_for_each_other() {
    let monitor = Monitor::builder().build().unwrap();
    // Names of one length, of which each is likely to lie where the one before was freed.
    let path = |i: usize| format!("/route/{i:03}");
    for i in (0..200).chain(0..200) {
        let app = Router::new().route(&path(i), get(|| async { "a page" }));
        let app = app.layer(monitor.layer());
        for _ in 0..3 {
            send(&app, "GET", &path(i)).await;
        }
    }
    let routes = routes(&monitor);
    assert_eq!(routes.len(), 200);
    assert!(routes.values().all(|route| route.count == 6), "{routes:?}");
}

#[tokio::test]
async fn a_router_that_names_its_routes_anew_for_each_request_has_the_same_routes() {
    let monitor = Monitor::builder().build().unwrap();
    let inner = Router::new()
        .route("/{id}", get(|| async { "an item" }))
        .layer(monitor.layer());
    let app = Router::new().nest_service("/items", inner);
    for id in 0..100 {
        send(&app, "GET", &format!("/items/{id}")).await;
    }
    let routes = routes(&monitor);
    assert_eq!(routes.keys().collect::<Vec<_>>(), ["GET /items/{id}"]);
    assert_eq!(routes["GET /items/{id}"].count, 100);
}
