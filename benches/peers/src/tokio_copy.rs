//! tokio-postgres: COPY by its own writer of rows.

use std::pin::pin;
use std::sync::Arc;

use perf_benches::batch::{Answer, Failure, Pg};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Connection, NoTls, Socket};

const COPY: &str = "COPY answers FROM STDIN (FORMAT binary)";
const TYPES: [Type; 5] = [Type::INT8, Type::INT8, Type::INT8, Type::TEXT, Type::INT8];

#[derive(Clone)]
pub(crate) struct Copy(Arc<Client>);

impl Copy {
    pub(crate) async fn open(db: &Pg) -> Result<Self, Failure> {
        let (client, connection) = connect(db).await?;
        tokio::spawn(connection);
        Ok(Self(Arc::new(client)))
    }

    pub(crate) async fn insert(self, rows: Vec<Answer>) -> Result<u64, Failure> {
        let sink = self.0.copy_in(COPY).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &TYPES));
        for row in &rows {
            let row: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [
                &row.user_id,
                &row.question_id,
                &row.points,
                &row.answer,
                &row.answered_at,
            ];
            writer.as_mut().write(&row).await?;
        }
        Ok(writer.finish().await?)
    }
}

/// Connects as the pool of `db` is: to the same schema, by TCP or the socket.
pub(crate) async fn connect(db: &Pg) -> Result<(Client, Connection<Socket, NoTlsStream>), Failure> {
    Ok(tokio_postgres::connect(db.url(), NoTls).await?)
}
