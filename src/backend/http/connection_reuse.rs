//! Reports whether a request used a connection that was open before.
//!
//! A server may close such a connection while the next request is on its way. The client can't know the outcome of that
//! request. On a new connection only the request itself can be the cause.
//!
//! The connector runs within the task of the request that needs a connection. A request that never called it used an
//! open connection. A request that called it may still have got another connection, which became free first. It counts
//! as one on a new connection, because the client can't distinguish the two.

use std::{
    cell::Cell,
    task::{Context, Poll},
};

use tower::{Layer, Service};

tokio::task_local! {
    /// Whether the current request has started to open a connection.
    static OPENS: Cell<bool>;
}

/// Sends a request with a client that has the layer [`RecordOpening`]. Returns whether it used an open connection, if it was
/// sent.
pub(super) async fn watch<T>(request: impl Future<Output = T>) -> (T, bool) {
    let watched = async {
        let outcome = request.await;
        (outcome, !OPENS.with(Cell::get))
    };
    OPENS.scope(Cell::new(false), watched).await
}

/// Records that the current request opens a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordOpening;

impl<S> Layer<S> for RecordOpening {
    type Service = RecordingConnector<S>;

    fn layer(&self, connector: S) -> RecordingConnector<S> {
        RecordingConnector(connector)
    }
}

/// A connector that records its calls.
#[derive(Clone, Debug)]
pub(super) struct RecordingConnector<S>(S);

impl<S: Service<R>, R> Service<R> for RecordingConnector<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: R) -> S::Future {
        // Outside of a request, there is nothing to record.
        let _: Result<_, _> = OPENS.try_with(|opens| opens.set(true));
        self.0.call(target)
    }
}
