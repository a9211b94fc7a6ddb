//! Upserts: a row is known again by its key.

use perf_batch::{BulkInsert, BulkRow, Duplicates, OnConflict, OnRowError};

use super::{IN_ONE, pool};

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "scores")]
struct Score {
    #[bulk(key)]
    player: String,
    #[bulk(key)]
    game: Option<i64>,
    points: i32,
}

const SCORES: &str = "CREATE TABLE scores (
    id bigint GENERATED ALWAYS AS IDENTITY, player varchar(9), game bigint,
    points integer CHECK (points < 1000), UNIQUE (player, game)
)";

fn score(player: i64, game: i64, points: i32) -> Score {
    Score {
        player: format!("p{player}"),
        game: Some(game),
        points,
    }
}

fn upsert() -> BulkInsert<Score> {
    BulkInsert::new().on_conflict(OnConflict::Update)
}

async fn id(pool: &sqlx::PgPool, score: &Score) -> Option<i64> {
    sqlx::query_scalar("SELECT id FROM scores WHERE player = $1 AND game = $2")
        .bind(&score.player)
        .bind(score.game)
        .fetch_optional(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn rows_inserted_and_updated_return_their_ids() {
    let Some(pool) = pool(SCORES, 1).await else {
        return;
    };
    let rows = |points| (0..1_000).map(move |n| score(n * 37 % 101, n * 7919 % 1_009, points));
    let insert = upsert().returning("id");
    let half: Vec<Score> = rows(1).step_by(2).collect();
    let first = insert.fetch_ids::<i64, _, _>(&pool, half).await.unwrap();
    let all: Vec<Score> = rows(2).collect();
    let (report, ids) = insert
        .execute::<i64, _, _>(&pool, all.clone())
        .await
        .unwrap();
    assert_eq!(report.written, 1_000);
    assert_eq!(report.statements, IN_ONE);
    for (row, at) in all.iter().zip(0..) {
        assert_eq!(ids[at], id(&pool, row).await);
        if at % 2 == 0 {
            assert_eq!(
                ids[at],
                first[at / 2],
                "the row is updated, not written anew"
            );
        }
    }
}

#[tokio::test]
async fn rows_left_out_return_the_id_of_the_row_that_counts() {
    let Some(pool) = pool(SCORES, 1).await else {
        return;
    };
    let mut rows: Vec<Score> = (0..300).map(|n| score(n % 10, n % 7, n as i32)).collect();
    for keep in [Duplicates::KeepFirst, Duplicates::KeepLast] {
        let insert = upsert().duplicates(keep).returning("id");
        let (report, ids) = insert
            .execute::<i64, _, _>(&pool, rows.clone())
            .await
            .unwrap();
        assert_eq!((report.written, report.deduplicated), (70, 230));
        for (row, got) in rows.iter().zip(&ids) {
            assert!(got.is_some());
            assert_eq!(*got, id(&pool, row).await);
        }
    }
    rows.truncate(70);
    rows.push(score(3, 3, 1_000)); // refused, and it counts for the key
    let insert = upsert().on_row_error(OnRowError::Skip).returning("id");
    let (report, ids) = insert
        .execute::<i64, _, _>(&pool, rows.clone())
        .await
        .unwrap();
    assert_eq!(report.failed[0].index, 70);
    for (at, row) in rows.iter().enumerate() {
        let counts = row.player != "p3" || row.game != Some(3);
        assert_eq!(ids[at], id(&pool, row).await.filter(|_| counts), "row {at}");
    }
}

#[tokio::test]
async fn a_key_that_holds_a_null_returns_its_own_id() {
    let Some(pool) = pool(SCORES, 1).await else {
        return;
    };
    let mut rows: Vec<Score> = (0..100).map(|n| score(n, n, 1)).collect();
    for at in [5, 50, 51] {
        rows[at].game = None;
    }
    let insert = upsert().returning("id");
    let (report, ids) = insert
        .execute::<i64, _, _>(&pool, rows.clone())
        .await
        .unwrap();
    assert_eq!(report.written, 100);
    for (row, got) in rows.iter().zip(&ids) {
        let player: String = sqlx::query_scalar("SELECT player FROM scores WHERE id = $1")
            .bind(got.unwrap())
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(player, row.player);
    }
}

#[tokio::test]
async fn keys_that_only_the_column_makes_equal_are_not_mixed_up() {
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "prices")]
    struct Price {
        #[bulk(key, pg_type = "numeric")]
        price: String,
        label: String,
    }
    let schema = "CREATE TABLE prices (
        price numeric(6, 2) UNIQUE, label text, twin text GENERATED ALWAYS AS (label || '!') STORED
    )";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let price = |price: &str, label: &str| Price {
        price: price.into(),
        label: label.into(),
    };
    let rows = vec![
        price("0.999", "a"),
        price("2", "b"),
        price("1.00", "c"),
        price("1", "d"),
    ];
    let insert = BulkInsert::<Price>::new();
    let ignore = insert.clone().on_conflict(OnConflict::DoNothing);
    let twins = ignore
        .returning("twin")
        .fetch_ids::<String, _, _>(&pool, rows.clone());
    // In the order of the keys, which are texts here.
    let twin = |twin: &str| Some(twin.to_owned());
    assert_eq!(twins.await.unwrap(), [twin("a!"), twin("b!"), None, None]);
    let update = insert.on_conflict(OnConflict::Update).returning("twin");
    let twins = update.fetch_ids::<String, _, _>(&pool, rows).await.unwrap();
    let all = ["a!", "b!", "c!", "d!"].map(twin);
    assert_eq!(twins, all, "each was written, one after the other");
}
