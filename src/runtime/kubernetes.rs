//! The client for the API server. It counts requests, records the activity of the watches, and passes answers through
//! the guard in `runtime::answers`. No request waits for ever.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use kube::{
    Client, Config,
    client::{Body as RequestBody, ClientBuilder},
};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::{BoxError, Layer, Service};

use super::{
    Metrics,
    answers::{GuardedBody, guarded},
    metrics::ApiRequest,
    watches::WatchActivity,
};

/// The longest time until an answer begins, and until it has ended unless it is a watch. The API server itself gives up
/// most requests after a minute. The silence of a watch that has begun is limited by kube's watcher.
const LONGEST_ANSWER: Duration = Duration::from_secs(90);

/// Creates a client that counts its requests. Its answers pass the guard in `runtime::answers`.
///
/// # Errors
/// If the configuration is invalid.
pub fn client(config: Config, metrics: &Metrics) -> kube::Result<Client> {
    let observation = Observation { metrics: metrics.clone() };
    Ok(ClientBuilder::try_from(config)?.with_layer(&observation).build())
}

/// Creates a client like [`client`] that sends its requests to this service, for namespaces named explicitly.
pub fn client_over<S, B>(service: S, metrics: &Metrics) -> Client
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let observation = Observation { metrics: metrics.clone() };
    Client::new(observation.layer(service), "default")
}

#[derive(Clone)]
struct Observation {
    metrics: Metrics,
}

impl<S> Layer<S> for Observation {
    type Service = ObservedService<S>;

    fn layer(&self, inner: S) -> ObservedService<S> {
        ObservedService { inner, metrics: self.metrics.clone() }
    }
}

struct ObservedService<S> {
    inner: S,
    metrics: Metrics,
}

impl<S, B> Service<Request<RequestBody>> for ObservedService<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    B: Send + 'static,
{
    type Response = Response<GuardedBody<ObservedBody<B>>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let asked = api_request(request.method(), request.uri());
        let activity = self.activity_of(&request);
        activity.iter().for_each(WatchActivity::touch);
        let (metrics, began) = (self.metrics.clone(), Instant::now());
        let answer = self.inner.call(request);
        async move {
            let answer = match timeout(LONGEST_ANSWER, answer).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(late().into()),
            };
            if answer.is_ok() {
                activity.iter().for_each(WatchActivity::touch);
            }
            let status = answer.as_ref().ok().map(|response| response.status().as_u16());
            metrics.count_api_request(asked, status, began.elapsed());
            let left = LONGEST_ANSWER.saturating_sub(began.elapsed());
            let deadline = (asked.verb != "watch").then(|| Box::pin(sleep(left)));
            Ok(guarded(asked, answer?.map(|body| ObservedBody { body, activity, deadline })))
        }
        .boxed()
    }
}

impl<S> ObservedService<S> {
    /// The recorder of the watch that this request belongs to. A cache lists and watches all objects at a path, so a
    /// request with a field selector belongs to no cache.
    fn activity_of(&self, request: &Request<RequestBody>) -> Option<WatchActivity> {
        let uri = request.uri();
        let of_one = uri.query().is_some_and(|query| query.contains("fieldSelector="));
        (request.method() == Method::GET && !of_one).then(|| self.metrics.watches().activity(uri.path()))?
    }
}

/// The body of an answer. Each frame counts as activity of the watch that it belongs to.
struct ObservedBody<B> {
    body: B,
    activity: Option<WatchActivity>,
    /// The time at which the whole answer must have arrived.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// The failure of a request whose answer takes too long.
fn late() -> io::Error {
    let message = format!("the API server did not answer within {} s", LONGEST_ANSWER.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

impl<B> Body for ObservedBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending()
            && let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(late().into())));
        }
        if let (Poll::Ready(Some(Ok(_))), Some(activity)) = (&polled, &self.activity) {
            activity.touch();
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The verb and the resource of a request, as RBAC names them.
pub(super) fn api_request(method: &Method, uri: &Uri) -> ApiRequest {
    let mut segments = uri.path().split('/').filter(|segment| !segment.is_empty());
    // Skips the group and version: `api/v1`, or `apis/servicekeys.dev/v1alpha1`.
    let in_a_group = segments.next() == Some("apis");
    segments.nth(usize::from(in_a_group));
    let rest = [(); 5].map(|()| segments.next());
    let (resource, name, part) = match rest {
        [Some("namespaces"), Some(_), Some(kind), name, part]
            if in_a_group || !is_part_of_a_namespace(kind) =>
        {
            (Some(kind), name, part)
        }
        [resource, name, part, ..] => (resource, name, part),
    };
    let watched = uri.query().is_some_and(|query| query.split('&').any(|field| field.starts_with("watch=")));
    let verb = match *method {
        Method::GET if watched => "watch",
        Method::GET if name.is_some() => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    ApiRequest { verb, resource: ApiRequest::resource(resource.unwrap_or_default(), part) }
}

/// Whether this segment is a subresource of the namespace, and not a kind of object in it.
fn is_part_of_a_namespace(segment: &str) -> bool {
    matches!(segment, "status" | "finalize")
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures::future;
    use rstest::rstest;

    use super::*;

    const GROUP: &str = "/apis/servicekeys.dev/v1alpha1";

    #[rstest]
    #[case::a_list("GET", &format!("{GROUP}/servicekeys?limit=500"), "list", "servicekeys")]
    #[case::a_watch("GET", &format!("{GROUP}/namespaces/a/servicekeys?watch=true"), "watch", "servicekeys")]
    #[case::a_key("PATCH", &format!("{GROUP}/namespaces/a/servicekeys/db"), "patch", "servicekeys")]
    #[case::its_status("PUT", &format!("{GROUP}/namespaces/a/servicekeys/db/status"), "update", "servicekeys/status")]
    #[case::a_provider("PATCH", &format!("{GROUP}/clusterkeyproviders/cf"), "patch", "clusterkeyproviders")]
    #[case::a_secret("POST", "/api/v1/namespaces/a/secrets", "create", "secrets")]
    #[case::a_secret_by_name("GET", "/api/v1/namespaces/a/secrets/db", "get", "secrets")]
    #[case::secrets("GET", "/api/v1/secrets?labelSelector=x&watch=1", "watch", "secrets")]
    #[case::a_namespace("GET", "/api/v1/namespaces/a", "get", "namespaces")]
    #[case::namespaces("GET", "/api/v1/namespaces", "list", "namespaces")]
    #[case::one_that_nobody_foresaw("DELETE", "/apis/batch/v1/namespaces/a/jobs/b", "delete", "other")]
    #[case::no_resource("GET", "/version", "list", "other")]
    fn a_request_is_named_as_rbac_names_it(
        #[case] method: &str,
        #[case] uri: &str,
        #[case] verb: &str,
        #[case] resource: &str,
    ) {
        let asked = api_request(&method.parse().unwrap(), &uri.parse().unwrap());
        assert_eq!((asked.verb, asked.resource), (verb, resource));
    }

    /// An API server that is unreachable.
    struct Away;

    impl Service<Request<RequestBody>> for Away {
        type Response = Response<RequestBody>;
        type Error = io::Error;
        type Future = future::Ready<io::Result<Response<RequestBody>>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<RequestBody>) -> Self::Future {
            future::ready(Err(io::ErrorKind::ConnectionRefused.into()))
        }
    }

    /// The silence of a watch of Secrets after this request. Before it, the watch was silent for 50 ms.
    async fn silence_after(uri: &str) -> (Metrics, Duration) {
        let metrics = Metrics::default();
        let _watch = metrics.watches().begin("/api/v1/secrets");
        thread::sleep(Duration::from_millis(50));
        let mut client = Observation { metrics: metrics.clone() }.layer(Away);
        let request = Request::get(uri).body(RequestBody::empty()).unwrap();
        assert!(client.call(request).await.is_err());
        let silence = metrics.watches().elapsed()[0].1;
        (metrics, silence)
    }

    #[tokio::test]
    async fn a_watch_that_is_tried_again_lives_although_nobody_answers() {
        let (metrics, silence) = silence_after("/api/v1/secrets?labelSelector=x&watch=true").await;
        assert!(silence < Duration::from_millis(50), "{silence:?}");
        let counted =
            "servicekeys_kubernetes_requests_total{verb=\"watch\",resource=\"secrets\",status=\"none\"} 1\n";
        assert!(metrics.text().contains(counted), "{}", metrics.text());
    }

    #[rstest]
    #[case::a_watch_of_one_object("/api/v1/secrets?fieldSelector=metadata.name%3Dlogin&watch=true")]
    #[case::a_watch_of_another_namespace("/api/v1/namespaces/a/secrets?watch=true")]
    #[tokio::test]
    async fn another_request_is_no_sign_of_life(#[case] uri: &str) {
        let (_, silence) = silence_after(uri).await;
        assert!(silence >= Duration::from_millis(50), "{silence:?}");
    }

    /// An API server that accepts requests and never answers, or begins an answer and never ends it.
    #[derive(Clone, Copy)]
    struct Silent {
        begins: bool,
    }

    /// A body that never ends.
    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Pending
        }
    }

    impl Service<Request<RequestBody>> for Silent {
        type Response = Response<Endless>;
        type Error = io::Error;
        type Future = BoxFuture<'static, io::Result<Response<Endless>>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<RequestBody>) -> Self::Future {
            if self.begins { future::ok(Response::new(Endless)).boxed() } else { future::pending().boxed() }
        }
    }

    #[rstest]
    #[case::a_list_that_does_not_begin(false, "/api/v1/secrets?limit=50", true)]
    #[case::a_list_that_does_not_end(true, "/api/v1/secrets?limit=50", true)]
    #[case::a_watch_that_does_not_begin(false, "/api/v1/secrets?watch=true", true)]
    #[case::a_watch_that_is_silent(true, "/api/v1/secrets?watch=true", false)]
    #[tokio::test(start_paused = true)]
    async fn no_request_waits_for_ever(#[case] begins: bool, #[case] uri: &str, #[case] ends: bool) {
        let client = client_over(Silent { begins }, &Metrics::default());
        let request = Request::get(uri).body(RequestBody::empty()).unwrap();
        let asked = async {
            let answer = client.send(request).await?;
            answer.into_body().collect_bytes().await
        };
        let outcome = timeout(2 * LONGEST_ANSWER, asked).await;
        assert_eq!(outcome.is_ok(), ends);
        assert!(outcome.is_err() || outcome.unwrap().is_err());
    }
}
