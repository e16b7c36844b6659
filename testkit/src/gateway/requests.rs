//! Selects the requests that a gate delays.

use http::{Method, Uri};

/// Some of the requests that come to a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    method: Option<Method>,
    /// The last segments of the path.
    path: Vec<String>,
    /// Whether they are dry runs, which the API server does not store; `None` for both.
    dry_run: Option<bool>,
    /// The number of requests that still pass first.
    first: usize,
}

impl Requests {
    /// All requests, also watches.
    #[must_use]
    pub const fn any() -> Self {
        Self { method: None, path: Vec::new(), dry_run: None, first: 0 }
    }

    /// Requests of this method whose path has this end, without dry runs. A segment `*` matches any: `PATCH` and
    /// `servicekeys/*` is the patch of a ServiceKey, but not of its status. `POST` and `secrets` creates a Secret.
    #[must_use]
    pub fn to(method: Method, path: &str) -> Self {
        let path = path.split('/').map(str::to_owned).collect();
        Self { method: Some(method), path, dry_run: Some(false), first: 0 }
    }

    /// Only the dry runs among these requests.
    #[must_use]
    pub fn dry_runs(self) -> Self {
        Self { dry_run: Some(true), ..self }
    }

    /// The same without this many requests at the start.
    #[must_use]
    pub fn after(self, first: usize) -> Self {
        Self { first, ..self }
    }

    /// Whether the gate delays this request. Counts the requests that pass first.
    pub(super) fn hold(&mut self, method: &Method, uri: &Uri) -> bool {
        let is_dry_run = uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "dryRun=All"));
        if !self.concern(method, uri.path()) || self.dry_run.is_some_and(|wanted| wanted != is_dry_run) {
            return false;
        }
        let passes = self.first > 0;
        self.first = self.first.saturating_sub(1);
        !passes
    }

    fn concern(&self, method: &Method, path: &str) -> bool {
        let mut segments = path.rsplit('/');
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.path.iter().rev().all(|wanted| {
                segments
                    .next()
                    .is_some_and(|segment| wanted == "*" && !segment.is_empty() || wanted == segment)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "/apis/servicekeys.dev/v1alpha1/namespaces/training/servicekeys/db";

    fn at(uri: &str) -> Uri {
        uri.parse().unwrap()
    }

    #[test]
    fn the_end_of_the_path_tells_an_object_from_its_status_and_its_kind() {
        let mut patches = Requests::to(Method::PATCH, "servicekeys/*");
        assert!(patches.hold(&Method::PATCH, &at(KEY)));
        assert!(!patches.hold(&Method::PUT, &at(KEY)));
        assert!(!patches.hold(&Method::PATCH, &at(&format!("{KEY}/status"))));
        assert!(!patches.hold(&Method::PATCH, &at(KEY.trim_end_matches("/db"))));
        assert!(!patches.hold(&Method::PATCH, &at("/servicekeys")));
        assert!(
            Requests::to(Method::PUT, "servicekeys/db/status")
                .hold(&Method::PUT, &at(&format!("{KEY}/status")))
        );
        assert!(
            !Requests::to(Method::PUT, "servicekeys/other/status")
                .hold(&Method::PUT, &at(&format!("{KEY}/status")))
        );
    }

    #[test]
    fn the_first_ones_pass() {
        let mut requests = Requests::any().after(2);
        let held = [Method::GET, Method::PUT, Method::GET, Method::PUT]
            .map(|method| requests.hold(&method, &at(KEY)));
        assert_eq!(held, [false, false, true, true]);
    }

    #[test]
    fn only_requests_of_the_kind_are_counted() {
        let mut creations = Requests::to(Method::POST, "secrets").after(1);
        let path = &at("/api/v1/namespaces/training/secrets");
        assert!(!creations.hold(&Method::POST, path));
        assert!(!creations.hold(&Method::GET, path));
        assert!(creations.hold(&Method::POST, path));
    }

    #[test]
    fn dry_runs_are_told_apart() {
        let path = &at("/api/v1/namespaces/training/secrets?dryRun=All&fieldManager=x");
        assert!(!Requests::to(Method::POST, "secrets").hold(&Method::POST, path));
        assert!(Requests::to(Method::POST, "secrets").dry_runs().hold(&Method::POST, path));
        assert!(Requests::any().hold(&Method::POST, path));
    }
}
