//! The server as the transport of a `kube::Client`.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, Stream as _, future::BoxFuture};
use http::{Response, header};
use http_body::{Body, Frame};
use tower::Service;

use super::{Answer, ApiServer, Call, WatchStream};

/// The connection of one client to the server.
#[derive(Clone)]
pub struct Connection {
    server: ApiServer,
    caller: String,
}

impl Connection {
    pub(super) fn new(server: ApiServer, caller: &str) -> Self {
        Self { server, caller: caller.to_owned() }
    }
}

impl Service<http::Request<kube::client::Body>> for Connection {
    type Response = Response<AnswerBody>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<kube::client::Body>) -> Self::Future {
        let Self { server, caller } = self.clone();
        async move {
            let (parts, body) = request.into_parts();
            let header = |name| {
                let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            let call = Call {
                method: parts.method.clone(),
                target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                accept: header(header::ACCEPT),
                content_type: header(header::CONTENT_TYPE),
                body: body.collect_bytes().await?,
                caller,
            };
            let (code, body) = match server.answer(&call) {
                Answer::Complete { code, body } => (code, AnswerBody(BodyState::Complete(Some(body.into())))),
                Answer::Watch(stream) => (200, AnswerBody(BodyState::Watch(stream))),
            };
            let mut response = Response::new(body);
            *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
            let json = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            Ok(response)
        }
        .boxed()
    }
}

/// The body of an answer.
pub struct AnswerBody(BodyState);

enum BodyState {
    Complete(Option<Bytes>),
    Watch(WatchStream),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut self.0 {
            BodyState::Complete(body) => Poll::Ready(body.take()),
            BodyState::Watch(stream) => Pin::new(stream).poll_next(context),
        };
        data.map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}
