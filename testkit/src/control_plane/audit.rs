//! The requests that the API server received, and their users.
//!
//! The log contains every request that the API server has answered. The server writes it in blocking mode, and writes
//! the entry of a request before its handler returns. An answer ends only then, because the server does not announce
//! its length in advance. Therefore a client that has read a whole answer finds the request here. A client that opened
//! a watch finds it once the answer has begun.

use std::{collections::HashMap, fmt, fs, io, ops::Deref, path::PathBuf};

use serde::Deserialize;

use super::{Error, User};

/// Reads the audit log of a plane. It contains only users from [`ControlPlane::new_user`].
///
/// [`ControlPlane::new_user`]: super::ControlPlane::new_user
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

impl AuditLog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// All requests of the user, each once, in the order of their first entries. The first entry of a watch is from its
    /// start, that of any other request from its answer.
    ///
    /// # Errors
    /// The log can't be read, or one of its lines is not an entry.
    pub fn requests(&self, user: &User) -> Result<Requests, Error> {
        match fs::read_to_string(&self.path) {
            Ok(log) => parse(&log, &user.name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Requests::default()),
            Err(error) => Err(Error::io("read", &self.path)(error)),
        }
    }
}

/// One request, as the API server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The server's own id of the request.
    pub audit_id: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The API group; empty for the core group and for paths that are not of a resource.
    pub group: String,
    /// The plural, such as `secrets`; empty for paths that are not of a resource, such as `/version`.
    pub resource: String,
    /// Such as `status`; mostly empty.
    pub subresource: String,
    /// Empty for cluster-wide resources and for requests about all namespaces.
    pub namespace: String,
    /// Empty for requests about many objects, and for objects with a generated name.
    pub name: String,
    /// The HTTP status, if there is one.
    pub code: Option<u16>,
    /// The progress of the request: `ResponseComplete`, or `ResponseStarted` for an open watch.
    pub stage: String,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// Path and query.
    pub request_uri: String,
}

impl Request {
    /// Whether the request changes something, or would if the user were allowed to.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !self.is_dry_run()
            && matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether the API server stored nothing of the request.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.query("dryRun") == Some("All")
    }

    /// `get` or `list`.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list")
    }

    /// A watch, with or without the objects that exist at its start.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.verb == "watch"
    }

    /// A watch that begins with the objects that exist: a streaming list.
    #[must_use]
    pub fn is_streaming_list(&self) -> bool {
        self.is_watch() && self.query("sendInitialEvents") == Some("true")
    }

    /// The objects that a list or watch selects: path and selectors, without paging and versions.
    fn selection(&self) -> (&str, Option<&str>, Option<&str>) {
        let path = self.request_uri.split('?').next().unwrap_or_default();
        (path, self.query("labelSelector"), self.query("fieldSelector"))
    }

    /// The value of a query parameter, still percent-encoded.
    fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.request_uri.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .filter(|value| !value.is_empty())
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.request_uri)?;
        match self.code {
            Some(code) => write!(f, " -> {code}"),
            None => Ok(()),
        }
    }
}

/// Requests of one user. Its `Display` prints one line for each request, for assertion messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(Vec<Request>);

impl Requests {
    /// Only requests that change something.
    #[must_use]
    pub fn writes(self) -> Self {
        self.only(Request::is_write)
    }

    /// Only `get` and `list`. They include the lists that fill the cache of a watch, unless
    /// [`besides_watches_and_events`](Self::besides_watches_and_events) comes first.
    #[must_use]
    pub fn reads(self) -> Self {
        self.only(Request::is_read)
    }

    /// Without the constant requests of any operator: watches, the lists that fill their caches, and events.
    #[must_use]
    pub fn besides_watches_and_events(self) -> Self {
        let watches = self.clone().only(Request::is_watch);
        self.only(|request| {
            let fills_a_cache = request.verb == "list"
                && watches.iter().any(|watch| watch.selection() == request.selection());
            !request.is_watch() && !fills_a_cache && request.resource != "events"
        })
    }

    /// Only requests about a resource, by its plural.
    #[must_use]
    pub fn of(self, resource: &str) -> Self {
        self.only(|request| request.resource == resource)
    }

    /// Only requests in a namespace.
    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        self.only(|request| request.namespace == namespace)
    }

    /// Only requests that an earlier reading did not contain.
    #[must_use]
    pub fn since(self, earlier: &Self) -> Self {
        self.only(|request| earlier.iter().all(|other| other.audit_id != request.audit_id))
    }

    /// Only requests for which `keep` is true.
    #[must_use]
    pub fn only(mut self, keep: impl FnMut(&Request) -> bool) -> Self {
        self.0.retain(keep);
        self
    }
}

impl Deref for Requests {
    type Target = [Request];

    fn deref(&self) -> &[Request] {
        &self.0
    }
}

impl IntoIterator for Requests {
    type Item = Request;
    type IntoIter = std::vec::IntoIter<Request>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|request| writeln!(f, "{request}"))
    }
}

/// The used fields of an `audit.k8s.io/v1` Event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: Named,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct Named {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

/// The last line may be incomplete. Its request has not been answered then.
fn parse(log: &str, user: &str) -> Result<Requests, Error> {
    let complete = log.rsplit_once('\n').map_or("", |(complete, _)| complete);
    // A shared plane has many users, so parsing the entries of all of them would be slow.
    let name = format!("\"username\":\"{user}\"");
    let mut requests = Vec::new();
    let mut places = HashMap::new();
    for line in complete.lines().filter(|line| line.contains(&name)) {
        let entry: Entry = serde_json::from_str(line)
            .map_err(|error| Error::Format { file: "audit.log", why: error.to_string() })?;
        if entry.user.username != user {
            continue;
        }
        let request = Request::from(entry);
        // A watch has one entry for its start and one for its end.
        match places.get(&request.audit_id) {
            Some(&place) => requests[place] = request,
            None => {
                places.insert(request.audit_id.clone(), requests.len());
                requests.push(request);
            }
        }
    }
    Ok(Requests(requests))
}

impl From<Entry> for Request {
    fn from(entry: Entry) -> Self {
        let Entry { audit_id, stage, request_uri, verb, user: _, user_agent, object_ref, response_status } =
            entry;
        let ObjectRef { api_group, resource, subresource, namespace, name } = object_ref;
        Self {
            audit_id,
            verb,
            group: api_group,
            resource,
            subresource,
            namespace,
            name,
            code: response_status.and_then(|status| status.code),
            stage,
            user_agent,
            request_uri,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(id: usize, user: &str, verb: &str, uri: &str, stage: &str) -> String {
        let resource = uri.split(['?', '/']).nth(3).unwrap_or_default();
        let entry = json!({
            "auditID": id.to_string(), "stage": stage, "requestURI": uri, "verb": verb,
            "user": {"username": user}, "objectRef": {"resource": resource},
            "responseStatus": {"code": 200},
        });
        format!("{entry}\n")
    }

    fn requests(of: &[(&str, &str)]) -> Requests {
        let log: String = of
            .iter()
            .enumerate()
            .map(|(id, (verb, uri))| line(id, "operator-1", verb, uri, "ResponseComplete"))
            .collect();
        parse(&log, "operator-1").unwrap()
    }

    #[test]
    fn only_the_users_own_requests_count() {
        let log = line(1, "operator-1", "get", "/version", "ResponseComplete")
            + &line(2, "operator-11", "get", "/version", "ResponseComplete");
        assert_eq!(parse(&log, "operator-1").unwrap().len(), 1);
    }

    #[test]
    fn a_watch_counts_once_and_shows_its_last_stage() {
        let uri = "/api/v1/secrets?watch=true";
        let log = line(1, "operator-1", "watch", uri, "ResponseStarted")
            + &line(1, "operator-1", "watch", uri, "ResponseComplete");
        let requests = parse(&log, "operator-1").unwrap();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].stage, "ResponseComplete");
    }

    #[test]
    fn a_line_that_is_being_written_is_left_for_later() {
        let whole = line(1, "operator-1", "get", "/version", "ResponseComplete");
        let log = format!("{whole}{}", &whole[..whole.len() / 2]);
        assert_eq!(parse(&log, "operator-1").unwrap().len(), 1);
    }

    #[test]
    fn the_list_that_fills_a_watch_is_told_from_other_lists() {
        let requests = requests(&[
            ("list", "/api/v1/secrets?labelSelector=a&limit=500"),
            ("list", "/api/v1/secrets?labelSelector=a&limit=500&continue=x"),
            ("watch", "/api/v1/secrets?labelSelector=a&watch=true"),
            ("list", "/api/v1/secrets?labelSelector=b"),
            ("watch", "/api/v1/configmaps?watch=true&sendInitialEvents=true"),
            ("create", "/api/v1/events"),
            ("get", "/api/v1/secrets/one"),
        ]);
        assert_eq!(requests.clone().reads().len(), 4);
        let streaming = requests.clone().only(Request::is_streaming_list);
        assert_eq!(streaming.len(), 1);
        let own: Vec<_> =
            requests.besides_watches_and_events().into_iter().map(|request| request.request_uri).collect();
        assert_eq!(own, ["/api/v1/secrets?labelSelector=b", "/api/v1/secrets/one"]);
    }

    #[test]
    fn later_requests_are_told_from_earlier_ones() {
        let earlier = requests(&[("get", "/version")]);
        let later = requests(&[("get", "/version"), ("patch", "/api/v1/secrets/one")]);
        let new = later.since(&earlier);
        assert_eq!(new.to_string(), "patch /api/v1/secrets/one -> 200\n");
        assert_eq!(new.writes().of("secrets").len(), 1);
    }
}
