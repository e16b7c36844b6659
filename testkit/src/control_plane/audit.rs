//! What the API server was asked, and by whom.
//!
//! The log is complete for what has been answered: it is written in blocking mode, and a request's
//! entry before its handler returns. An answer ends only then, because the API server announces no
//! length in advance. A client that has read an answer to its end therefore finds the request here;
//! one that opened a watch finds it once the answer has begun.

use std::{collections::HashMap, fmt, fs, io, ops::Deref, path::PathBuf};

use serde::Deserialize;

use super::{Error, User};

/// Reads the audit log of a plane. Only users from [`ControlPlane::new_user`] are in it.
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

    /// Everything that the user has asked for, each request once, in the order of the first entry:
    /// when it was answered, for watches when they began.
    ///
    /// # Errors
    /// When the log can't be read, or holds a line that is no entry.
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
    /// The API group; empty for the core group and for paths that are no resource.
    pub group: String,
    /// The plural, such as `secrets`; empty for paths that are no resource, such as `/version`.
    pub resource: String,
    /// Such as `status`; mostly empty.
    pub subresource: String,
    /// Empty for what is cluster-wide and for requests about all namespaces.
    pub namespace: String,
    /// Empty for requests about many objects, and for creations with a generated name.
    pub name: String,
    /// The HTTP status, if there was one.
    pub code: Option<u16>,
    /// How far it has come: `ResponseComplete`, or `ResponseStarted` for a watch that is open.
    pub stage: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// Path and query.
    pub request_uri: String,
}

impl Request {
    /// It changed something, or would have if it had been allowed.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !self.is_dry_run()
            && matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// The API server stored nothing of it.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.query("dryRun") == Some("All")
    }

    /// `get` or `list`.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list")
    }

    /// A watch, with or without the objects that exist at its begin.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.verb == "watch"
    }

    /// A watch that begins with the objects that exist: a streaming list.
    #[must_use]
    pub fn is_streaming_list(&self) -> bool {
        self.is_watch() && self.query("sendInitialEvents") == Some("true")
    }

    /// Which objects a list or watch is about: path and selectors, without paging and versions.
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

/// Requests of one user. Its `Display`, one line per request, is made for assertion messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(Vec<Request>);

impl Requests {
    /// Only those that change something.
    #[must_use]
    pub fn writes(self) -> Self {
        self.only(Request::is_write)
    }

    /// Only `get` and `list`. The lists that fill the cache of a watch are among them, unless
    /// [`besides_watches_and_events`](Self::besides_watches_and_events) comes first.
    #[must_use]
    pub fn reads(self) -> Self {
        self.only(Request::is_read)
    }

    /// Without what any operator does all the time: watches, the lists of the same objects with
    /// which a watch's cache is filled, and events.
    #[must_use]
    pub fn besides_watches_and_events(self) -> Self {
        let watches = self.clone().only(Request::is_watch);
        self.only(|request| {
            let fills_a_cache = request.verb == "list"
                && watches.iter().any(|watch| watch.selection() == request.selection());
            !request.is_watch() && !fills_a_cache && request.resource != "events"
        })
    }

    /// Only those about a resource, by its plural.
    #[must_use]
    pub fn of(self, resource: &str) -> Self {
        self.only(|request| request.resource == resource)
    }

    /// Only those in a namespace.
    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        self.only(|request| request.namespace == namespace)
    }

    /// Only those that an earlier reading did not have.
    #[must_use]
    pub fn since(self, earlier: &Self) -> Self {
        self.only(|request| earlier.iter().all(|other| other.audit_id != request.audit_id))
    }

    /// Only those for which `keep` is true.
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

/// The fields of an `audit.k8s.io/v1` Event that are used.
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

/// The last line may be half written, and is then of a request that has not been answered.
fn parse(log: &str, user: &str) -> Result<Requests, Error> {
    let complete = log.rsplit_once('\n').map_or("", |(complete, _)| complete);
    // Reading every entry of every test's user would be slow in a shared plane.
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
        // A watch has an entry when it begins and one when it ends.
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
