use std::sync::Arc;

/// What is asked of the functions of a schema.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) enqueue: Arc<str>,
    pub(super) exchange: Arc<str>,
    pub(super) extend: Arc<str>,
    pub(super) counts: Arc<str>,
    pub(super) set_rules: Arc<str>,
    pub(super) rules: Arc<str>,
    pub(super) pause: Arc<str>,
    pub(super) dead: Arc<str>,
    pub(super) replay: Arc<str>,
    pub(super) purge: Arc<str>,
}

impl Statements {
    pub(super) fn new(schema: &str) -> Self {
        let sql = |text: &str| text.replace("{schema}", schema).into();
        Self {
            enqueue: sql("SELECT {schema}.enqueue($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14)"),
            exchange: sql("SELECT * FROM {schema}.exchange($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)"),
            extend: sql("SELECT {schema}.extend($1,$2,$3,$4)"),
            counts: sql("SELECT * FROM {schema}.count_jobs($1)"),
            set_rules: sql("SELECT {schema}.set_rules($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)"),
            rules: sql("SELECT rules FROM {schema}.queues WHERE queue = $1"),
            pause: sql("SELECT {schema}.pause($1,$2)"),
            dead: sql(include_str!("sql/dead.sql")),
            replay: sql("SELECT {schema}.replay($1,$2,$3)"),
            purge: sql(include_str!("sql/purge.sql")),
        }
    }
}
