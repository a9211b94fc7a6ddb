//! Runs the service with all five crates as a user does.

#[cfg(test)]
mod quiz_server {
    use std::process::Stdio;
    use std::time::Duration;

    use perf_metrics::{AlertOptions, Monitor};
    use serde_json::{Value, json};
    use testkit::{Prometheus, PrometheusOptions};
    use tokio::io::{AsyncBufReadExt, BufReader, Lines};
    use tokio::process::{Child, ChildStdout, Command};
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(60);

    struct Server {
        child: Child,
        lines: Lines<BufReader<ChildStdout>>,
        users: String,
        admin: String,
    }

    impl Server {
        async fn start(data: &std::path::Path) -> Self {
            let mut child = Command::new(env!("CARGO_BIN_EXE_quiz_server"))
                .args([
                    "--listen",
                    "127.0.0.1:0",
                    "--admin",
                    "127.0.0.1:0",
                    "--data",
                ])
                .arg(data)
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut server = Self {
                child,
                lines,
                users: String::new(),
                admin: String::new(),
            };
            server.users = server.line_after("users   ").await;
            server.admin = server.line_after("monitor ").await;
            server.admin = server.admin.replace("/monitoring/stats", "");
            server
        }

        async fn line_after(&mut self, start: &str) -> String {
            let next = async {
                loop {
                    let line = self.lines.next_line().await.unwrap();
                    let line = line.expect("the server ended");
                    if let Some(rest) = line.strip_prefix(start) {
                        return rest.to_owned();
                    }
                }
            };
            timeout(LONG, next).await.unwrap()
        }

        async fn stats(&self) -> Value {
            let url = format!("{}/monitoring/stats", self.admin);
            reqwest::get(url).await.unwrap().json().await.unwrap()
        }

        async fn end(mut self) -> String {
            let pid = self.child.id().unwrap().to_string();
            let asked = Command::new("/bin/kill").args(["-TERM", &pid]).status();
            assert!(asked.await.unwrap().success());
            let last = self.line_after("ended: ").await;
            let status = timeout(LONG, self.child.wait()).await.unwrap().unwrap();
            assert!(status.success());
            last
        }
    }

    async fn post(url: String, body: Value) -> (u16, String) {
        let client = reqwest::Client::new();
        let response = client.post(url).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    fn given(user: i64, question: i64, answer: &str) -> Value {
        json!({"user_id": user, "question_id": question, "answer": answer})
    }

    #[tokio::test]
    async fn all_five_crates_serve_are_seen_and_end_with_nothing_lost() {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path()).await;
        let quiz = format!("{}/quizzes/1", server.users);

        let ready = format!("{}/health/ready", server.admin);
        let ready: Value = reqwest::get(ready).await.unwrap().json().await.unwrap();
        assert_eq!(ready["checks"]["writer"]["status"], "ok", "{ready}");
        assert_eq!(ready["checks"]["readers"]["status"], "ok", "{ready}");
        let absent = server.stats().await;
        assert_eq!(absent["requests"]["count"], 0, "{absent}");
        let saved = post(format!("{quiz}/answers"), given(1, 1, "right")).await;
        assert_eq!(saved.0, 201, "{saved:?}");
        let refused = post(format!("{quiz}/answers"), given(1, 2, "")).await;
        assert_eq!(refused.0, 422, "{refused:?}");
        let all = (1..=100).map(|q| given(2, q, if q % 2 == 0 { "right" } else { "wrong" }));
        let score = post(format!("{quiz}/completions"), all.collect()).await;
        assert_eq!(score, (200, "50".to_owned()));
        for _ in 0..3 {
            let best = reqwest::get(format!("{quiz}/leaderboard")).await.unwrap();
            let best: Value = best.json().await.unwrap();
            let expected = json!([{"user_id": 2, "score": 50}, {"user_id": 1, "score": 1}]);
            assert_eq!(best, expected);
        }

        let sent = async {
            loop {
                let stats = server.stats().await;
                if stats["message_queue"]["processed"] == 1 {
                    return stats;
                }
                tokio::task::yield_now().await;
            }
        };
        let stats = timeout(LONG, sent).await.unwrap();
        assert_eq!(stats["requests"]["count"], 6, "{stats}");
        assert_eq!(stats["requests"]["in_flight"], 0, "{stats}");
        assert_eq!(stats["batch"]["written"], 101, "{stats}");
        assert_eq!(stats["batch"]["failed"], 1, "{stats}");
        assert_eq!(stats["cache"]["loads"], 1, "{stats}");
        assert_eq!(stats["cache"]["hits"], 2, "{stats}");
        assert_eq!(
            stats["database_pool"]["checked_out_connections"], 0,
            "{stats}"
        );

        assert_eq!(server.end().await, "0 messages given back to the queue");
        let server = Server::start(data.path()).await;
        let best = reqwest::get(format!("{}/quizzes/1/leaderboard", server.users))
            .await
            .unwrap();
        assert_eq!(best.json::<Value>().await.unwrap()[0]["score"], 50);
        server.end().await;
    }

    /// What users do all the time: questions and users that were not there yet, and looks at the best.
    async fn play(quiz: String) {
        for user in 1000.. {
            let answers = format!("{quiz}/answers");
            assert_eq!(post(answers, given(user, 1, "right")).await.0, 201);
            let rest = (2..=5).map(|question| given(user, question, "right"));
            let completed = post(format!("{quiz}/completions"), rest.collect()).await;
            assert_eq!(completed.0, 200, "{completed:?}");
            let best = format!("{quiz}/leaderboard");
            for _ in 0..2 {
                reqwest::get(&best).await.unwrap().text().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn has_data(prometheus: &Prometheus, expression: &str) -> bool {
        let answer = reqwest::get(prometheus.query_url(expression))
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        let result = answer["data"]["result"].as_array();
        let mut result = result
            .unwrap_or_else(|| panic!("{expression}: {answer}"))
            .iter();
        result.any(|series| series["value"][1] != "NaN")
    }

    #[tokio::test]
    async fn a_prometheus_finds_data_for_the_whole_dashboard() {
        let every = Duration::from_millis(500);
        let options = AlertOptions::default()
            .scrape_interval(every)
            .time_scale(0.001);
        let monitor = Monitor::builder()
            .service("quiz")
            .alerts(options)
            .build()
            .unwrap();
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path()).await;
        let options = PrometheusOptions::default()
            .interval(every)
            .scrape("quiz", &format!("{}/metrics", server.admin))
            .rules(&monitor.alert_rules());
        let Some(prometheus) = Prometheus::start(options).await else {
            return;
        };
        let playing = tokio::spawn(play(format!("{}/quizzes/1", server.users)));

        let dashboard: Value = serde_json::from_str(&monitor.grafana_json()).unwrap();
        let panels = dashboard["panels"].as_array().unwrap().iter();
        // Nobody hangs up here, and a SQLite pool opens its connections once, before the first scrape.
        let shown = panels.filter(|it| it["title"] != "Aborts" && it["title"] != "p95 to open one");
        let targets = shown.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        let mut without: Vec<String> = targets
            .map(|target| {
                let expr = target["expr"].as_str().unwrap().replace("$job", "quiz");
                expr.replace("$route", ".*")
                    .replace("$__rate_interval", "10s")
            })
            .collect();
        assert!(without.len() > 40, "{}", without.len());
        let deadline = tokio::time::Instant::now() + LONG;
        while !without.is_empty() {
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late && !playing.is_finished(), "no data: {without:#?}");
            let mut still = Vec::new();
            for expr in without {
                if !has_data(&prometheus, &expr).await {
                    still.push(expr);
                }
            }
            without = still;
            tokio::time::sleep(every / 5).await;
        }
        playing.abort();
        server.end().await;
    }
}
