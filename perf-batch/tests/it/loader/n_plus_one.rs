use std::sync::Arc;

use perf_batch::{LoadError, Loader};
use sqlx::FromRow;

use crate::statements;

#[derive(Debug, PartialEq, FromRow)]
struct User {
    id: i64,
    name: String,
}

#[derive(Debug, PartialEq, FromRow)]
struct Post {
    id: i64,
    user_id: i64,
    title: String,
}

/// 30 users, of whom every third has no post, and 60 posts.
const TABLES: &str = "
    CREATE TABLE n1_users (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE n1_posts (id bigint PRIMARY KEY, user_id bigint NOT NULL, title text NOT NULL);
    WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 30)
        INSERT INTO n1_users SELECT id, 'user ' || id FROM n;
    WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 90)
        INSERT INTO n1_posts SELECT id, 1 + (id * 7) % 30, 'post ' || id FROM n
            WHERE (1 + (id * 7) % 30) % 3 <> 0;
";

/// What a handler does for each of its rows, by itself.
async fn card(
    users: &Loader<i64, User>,
    posts: &Loader<i64, Post>,
    id: i64,
) -> Result<(Option<Arc<User>>, Vec<Arc<Post>>), LoadError> {
    let user = users.load(id).await?;
    let mut posts = posts.load_groups([id]).await?;
    Ok((user, posts.pop().unwrap_or_default()))
}

async fn cards(users: Loader<i64, User>, posts: Loader<i64, Post>) {
    let mut tasks = tokio::task::JoinSet::new();
    for id in 1..=31 {
        let (users, posts) = (users.clone(), posts.clone());
        tasks.spawn(async move { (id, card(&users, &posts, id).await.unwrap()) });
    }
    let mut total = 0;
    for (id, (user, posts)) in tasks.join_all().await {
        let name = format!("user {id}");
        assert_eq!(
            user.map(|user| user.name.clone()),
            (id <= 30).then_some(name)
        );
        assert!(posts.iter().all(|post| post.user_id == id));
        assert!(posts.is_sorted_by_key(|post| post.id));
        assert_eq!(posts.len(), if id % 3 == 0 || id == 31 { 0 } else { 3 });
        total += posts.len();
    }
    assert_eq!(total, 60);
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn sixty_two_loads_are_two_statements_on_sqlite() {
    use sqlx::types::Json;

    statements::listen();
    let lite = crate::support::lite::Lite::new(TABLES).await;
    let users = Loader::builder(lite.pool.clone(), |db, ids: Vec<i64>| async move {
        let sql =
            "SELECT id, name FROM n1_users /* lite */ WHERE id IN (SELECT value FROM json_each(?))";
        sqlx::query_as(sql).bind(Json(ids)).fetch_all(&db).await
    });
    let posts = Loader::builder(lite.pool.clone(), |db, ids: Vec<i64>| async move {
        let sql = "SELECT id, user_id, title FROM n1_posts /* lite */
            WHERE user_id IN (SELECT value FROM json_each(?)) ORDER BY id";
        sqlx::query_as(sql).bind(Json(ids)).fetch_all(&db).await
    });
    cards(
        users.key(|user: &User| user.id).build(),
        posts.key(|post: &Post| post.user_id).build(),
    )
    .await;
    assert_eq!(statements::with("n1_users /* lite */"), 1);
    assert_eq!(statements::with("n1_posts /* lite */"), 1);
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn sixty_two_loads_are_two_statements_on_postgres() {
    use sqlx::postgres::PgPool;

    statements::listen();
    let Some(server) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = PgPool::connect(&server.schema_url().await).await.unwrap();
    sqlx::raw_sql(TABLES).execute(&pool).await.unwrap();
    let users = Loader::builder(pool.clone(), |db: PgPool, ids: Vec<i64>| async move {
        let sql = "SELECT id, name FROM n1_users /* pg */ WHERE id = ANY($1)";
        sqlx::query_as(sql).bind(ids).fetch_all(&db).await
    });
    let posts = Loader::builder(pool, |db: PgPool, ids: Vec<i64>| async move {
        let sql = "SELECT id, user_id, title FROM n1_posts /* pg */
            WHERE user_id = ANY($1) ORDER BY id";
        sqlx::query_as(sql).bind(ids).fetch_all(&db).await
    });
    cards(
        users.key(|user: &User| user.id).build(),
        posts.key(|post: &Post| post.user_id).build(),
    )
    .await;
    assert_eq!(statements::with("n1_users /* pg */"), 1);
    assert_eq!(statements::with("n1_posts /* pg */"), 1);
}
