//! Runs the service with all five crates as a user does.

#[cfg(test)]
mod quiz_server {
    use std::process::Stdio;
    use std::time::Duration;

    use serde_json::{Value, json};
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
}
