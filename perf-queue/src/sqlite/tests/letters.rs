use super::*;

async fn die(journal: &Journal, payload: &str) -> JobId {
    let added = journal.append(vec![job(payload)]).await.unwrap();
    let error = format!("{payload} is wrong");
    journal.end(added[0].row.unwrap(), End::Dead { error });
    added[0].id
}

fn texts(letters: &[crate::remote::Letter]) -> Vec<&str> {
    let texts = letters.iter().map(|it| std::str::from_utf8(&it.payload));
    texts.map(Result::unwrap).collect()
}

#[tokio::test]
async fn what_died_is_a_letter_with_its_history() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let added = journal.append(vec![job("a"), job("b")]).await.unwrap();
    let row = added[0].row.unwrap();
    journal.end(row, retry(2, "first"));
    journal.flush().await.unwrap();
    journal.end(row, retry(3, "second"));
    let error = "third".to_owned();
    journal.end(row, End::Dead { error });
    let letters = journal.dead(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].id, added[0].id);
    assert_eq!((letters[0].attempts, texts(&letters)), (3, vec!["a"]));
    assert_eq!(letters[0].errors, ["first", "second", "third"]);
    journal.shutdown().await;
    let (journal, jobs) = dir.open().await;
    assert_eq!(payloads(&jobs), ["b"]);
    assert_eq!(journal.dead(10).await.unwrap(), letters);
    assert_eq!(journal.letters(), [1, 0]);
}

#[tokio::test]
async fn the_newest_letters_are_kept() {
    let dir = Dir::new();
    let sqlite = Sqlite::open(dir.file()).dead_letters(2);
    let (journal, _) = sqlite.start("test").await.unwrap();
    for payload in ["a", "b", "c", "d"] {
        die(&journal, payload).await;
    }
    assert_eq!(texts(&journal.dead(10).await.unwrap()), ["c", "d"]);
    assert_eq!(texts(&journal.dead(1).await.unwrap()), ["c"]);
    assert_eq!(journal.letters(), [2, 2]);
    assert_eq!(journal.purge(std::time::Duration::ZERO).await.unwrap(), 2);
    assert_eq!(journal.letters(), [0, 2]);
    assert_eq!(journal.dead(10).await.unwrap(), []);
}

#[tokio::test]
async fn no_letters_are_kept_where_none_are_wanted() {
    let dir = Dir::new();
    let sqlite = Sqlite::open(dir.file()).dead_letters(0);
    let (journal, _) = sqlite.start("test").await.unwrap();
    die(&journal, "a").await;
    assert_eq!(journal.dead(10).await.unwrap(), []);
    journal.shutdown().await;
    assert_eq!(dir.open().await.1, []);
}

#[tokio::test]
async fn a_replayed_letter_is_the_last_job_and_has_its_first_attempt_before_it() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let id = die(&journal, "a").await;
    append(&journal, "b").await;
    let replayed = journal.replay(id).await.unwrap().unwrap();
    assert_eq!((replayed.id, replayed.attempt), (id, 1));
    assert_eq!(replayed.payload, b"a");
    assert_eq!(replayed.errors, [""; 0]);
    assert_eq!(journal.replay(id).await.unwrap(), None);
    assert_eq!(journal.letters(), [0, 0]);
    assert_eq!(journal.dead(10).await.unwrap(), []);
    assert_eq!(journal.arrived(), None);
    journal.shutdown().await;
    assert_eq!(payloads(&dir.open().await.1), ["b", "a"]);
}
