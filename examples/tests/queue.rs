//! Runs the examples of the queue as a user does.

#[cfg(test)]
mod queue {
    use std::process::Command;

    fn output(program: &str) -> String {
        let output = Command::new(program).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        text
    }

    #[test]
    fn the_bot_sends_what_can_be_sent_and_says_what_cannot() {
        let text = output(env!("CARGO_BIN_EXE_queue"));
        for line in [
            "a welcome is sent once: true",
            "24 sent in ",
            "1 discarded, 1 put off, 1 dead",
            "failed 3 times: the messenger is broken",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_mail_is_sent_for_each_order_that_was_committed() {
        let text = output(env!("CARGO_BIN_EXE_queue_transactional"));
        for line in ["no unicorn, no order, no mail", "2 orders, 2 mails"] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert_eq!(text.matches("(32 digits of id)").count(), 2, "{text}");
    }
}
