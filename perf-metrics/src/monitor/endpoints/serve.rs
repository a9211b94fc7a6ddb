use std::future::Future;
use std::io;

use tokio::net::TcpListener;

use super::Monitor;

impl Monitor {
    /// Serves the endpoints of [`router`](Self::router) on `listener`, such as a port that only the
    /// cluster reaches, until `shutdown` is ready; then it answers the requests that are under way
    /// and returns. What is asked there is not timed.
    ///
    /// ```
    /// # use perf_metrics::Monitor;
    /// # async fn serve(monitor: Monitor, stop: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    /// let admin = tokio::net::TcpListener::bind("127.0.0.1:9100").await?;
    /// let admin = tokio::spawn(async move { monitor.serve(admin, stop).await });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// None today: an `accept` that fails is tried again, as in `axum::serve`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener; requests under way are answered by tasks of their
    /// own.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        axum::serve(listener, self.endpoints())
            .with_graceful_shutdown(shutdown)
            .await
    }
}
