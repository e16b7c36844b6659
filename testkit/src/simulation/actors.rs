//! Everybody except the operator: users, administrators, GitOps tools, other writers, policies, and attackers.

use std::{sync::Arc, time::Duration};

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use servicekey_operator::api::marks::MANAGED_BY_LABEL;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    api_server::{Call, Verb},
    checks::{self, Author, text},
    hostile::{Attack, HOSTILE, LOGIN},
    process::Process,
    run::LONG_LIFE,
    script::Action,
    sides::SideChange,
    world::{SYSTEM, World},
};

const API: &str = "/apis/servicekeys.dev/v1alpha1";
/// The finalizer of another controller.
const GUARD: &str = "example.com/guard";
const MERGE_PATCH: &str = "application/merge-patch+json";
/// The time within which a delay of watches also applies to a new one.
const NEW_WATCHES: Duration = Duration::from_millis(50);
/// The Deployment of each tenant.
const WORKLOAD: &str = "app";

/// The Secret with parameters of each tenant.
pub const PARAMETERS: &str = "parameters";

/// The variant of a ServiceKey whose new keys are never verified.
const UNVERIFIED: u32 = 5;

/// The namespaces of the tenants.
pub const TENANTS: [&str; 2] = ["team-a", "team-b"];

/// How the ServiceKeys of a run are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// For each ServiceKey: its namespace and its side.
    pub keys: Vec<(usize, usize)>,
    /// For each side: whether an administrator offers it to all tenants, or each tenant has its own provider.
    pub is_shared: Vec<bool>,
    /// For each ServiceKey: whether a replaced key stays while a pod may use it.
    pub waits_for_pods: Vec<bool>,
    /// For each ServiceKey: whether another content of its parameters leads to another key.
    pub follows_parameters: Vec<bool>,
    /// For each ServiceKey: how its new keys are verified before they are published, if they are.
    pub verify: Vec<Option<Value>>,
}

/// The actors of a run.
pub struct Actors {
    world: Arc<World>,
    plan: Plan,
    /// The processes of the operator that run now, by replica.
    processes: Arc<Mutex<Vec<Process>>>,
    /// The second writers, and the ends of what lasts for a time.
    tasks: JoinSet<()>,
}

impl Actors {
    /// The actors of a world.
    #[must_use]
    pub fn new(world: Arc<World>, plan: Plan, processes: Arc<Mutex<Vec<Process>>>) -> Self {
        Self { world, plan, processes, tasks: JoinSet::new() }
    }

    /// Creates the namespaces, the logins and the providers.
    pub fn set_up(&self) {
        for namespace in TENANTS.iter().chain([&SYSTEM]) {
            self.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace}}));
        }
        self.offer_workloads();
        self.offer_parameters();
        self.offer_providers();
    }

    /// Creates the Secrets with parameters that are missing.
    fn offer_parameters(&self) {
        if self.plan.follows_parameters.contains(&true) {
            for namespace in TENANTS {
                let parameters = json!({"metadata": {"name": PARAMETERS}, "stringData": {"json": "{}"}});
                self.create(&format!("/api/v1/namespaces/{namespace}/secrets"), &parameters);
            }
        }
    }

    /// Creates the workloads that are missing.
    fn offer_workloads(&self) {
        for namespace in TENANTS {
            let template = json!({"metadata": {"annotations": {"example.com/note": "x"}}});
            let workload =
                json!({"metadata": {"name": WORKLOAD}, "spec": {"replicas": 2, "template": template}});
            self.create(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"), &workload);
        }
    }

    /// Creates the logins and providers that are missing.
    fn offer_providers(&self) {
        for side in 0..self.world.sides.len() {
            self.write_login(side, true);
            self.create_provider(side);
        }
    }

    fn key(&self, number: usize) -> (&'static str, String, usize) {
        let number = number % self.plan.keys.len();
        let (namespace, side) = self.plan.keys[number];
        (TENANTS[namespace % TENANTS.len()], format!("key-{number}"), side)
    }

    /// Namespace and name of the staging Secret of a ServiceKey.
    fn staged(&self, number: usize) -> (&'static str, String) {
        let (namespace, name, _) = self.key(number);
        let found = self.send(Method::GET, &service_key(namespace, &name), None).1;
        (namespace, checks::staging_name(text(&found, "/metadata/uid").unwrap_or_default()))
    }

    fn side(&self, number: usize) -> usize {
        number % self.world.sides.len()
    }

    /// Carries out an action.
    pub fn act(&mut self, action: &Action) {
        match action {
            Action::Apply { key, variant } => self.apply(*key, *variant),
            Action::Create { key } => self.create_service_key(*key, 0),
            Action::Delete { key } => {
                let (namespace, name, _) = self.key(*key);
                self.send(Method::DELETE, &service_key(namespace, &name), None);
            }
            Action::Rotate { key } => {
                let (namespace, name, _) = self.key(*key);
                self.rotate(namespace, &name);
            }
            Action::Suspend { key, suspended } => {
                let (namespace, name, _) = self.key(*key);
                self.merge(&service_key(namespace, &name), &json!({"spec": {"suspend": suspended}}));
            }
            Action::StripFinalizers { key } => {
                let (namespace, name, _) = self.key(*key);
                self.merge(&service_key(namespace, &name), &json!({"metadata": {"finalizers": null}}));
            }
            Action::ForeignSecret { key } => {
                let (namespace, name, _) = self.key(*key);
                let secret = json!({
                    "metadata": {"name": name, "labels": {"example.com/foreign": "yes"}},
                    "data": {"foreign": "Zm9yZWlnbg=="},
                });
                self.create(&format!("/api/v1/namespaces/{namespace}/secrets"), &secret);
            }
            Action::DeleteSecret { key } => {
                let (namespace, name, _) = self.key(*key);
                self.send(Method::DELETE, &secret(namespace, &name), None);
            }
            Action::EditSecret { key } => {
                let (namespace, name, _) = self.key(*key);
                self.merge(&secret(namespace, &name), &json!({"data": {"password": "ZWRpdGVk"}}));
            }
            Action::ForgeMarks { key, sequence } => self.forge(*key, *sequence),
            Action::Guard { key, lasts } => self.guard(*key, *lasts),
            Action::Reapply { key, variant, lasts } => self.reapply(*key, *variant, *lasts),
            Action::Restore => self.restore(),
            Action::SecondWriter { key, lasts } => self.write_again(*key, *lasts),
            Action::MutatingPolicy { lasts } => self.mutate_for(*lasts),
            Action::RefusingPolicy { lasts } => self.refuse_for(*lasts),
            Action::Quota { lasts } => self.limit_for(*lasts),
            Action::Login { side, right } => self.write_login(self.side(*side), *right),
            Action::ReplaceProvider { side, absent } => self.replace_provider(self.side(*side), *absent),
            Action::DeleteNamespace { absent } => self.delete_namespace(*absent),
            Action::Side { side, change } => {
                let side = self.side(*side);
                self.world.sides[side].change(*change);
                self.world.see_side(side, Author::Other);
            }
            Action::SideTrouble { side, trouble } => self.world.trouble_side(self.side(*side), *trouble),
            Action::ClusterTrouble(trouble) => self.world.trouble_cluster(*trouble),
            Action::ForgetHistory => {
                self.world.see_cluster(Author::Other);
                self.world.cluster.compact();
                for watch in self.world.cluster.watches() {
                    self.world.cluster.expire_watch(watch.id);
                }
            }
            Action::StaleWatches { lasts } => self.stall_watches(*lasts),
            Action::LateWatch { lag, lasts } => self.delay_watches(*lag, *lasts),
            Action::ReorderWatches { lasts } => self.reorder_watches(*lasts),
            Action::Attack { number, attack } => self.attack(*number, *attack),
            Action::Crash { replica, effects } => self.with_process(*replica, |process| {
                process.crash_after(*effects);
            }),
            Action::Freeze { replica, lasts } => {
                let until = Instant::now() + *lasts;
                self.with_process(*replica, |process| process.freeze(until));
                self.world.checks().freeze(until);
            }
            Action::ClockJump { seconds } => {
                self.world.clock.jump(*seconds);
                self.world.checks().jump();
            }
            Action::ChangeParameters { key, size } => {
                let (namespace, ..) = self.key(*key);
                let content = json!({"size": size}).to_string();
                self.merge(&secret(namespace, PARAMETERS), &json!({"stringData": {"json": content}}));
            }
            Action::StartPod { key, late, ahead } => self.start_pod(*key, *late, *ahead),
            Action::DeleteStaged { key } => {
                let (namespace, name) = self.staged(*key);
                self.send(Method::DELETE, &secret(namespace, &name), None);
            }
            Action::EditStaged { key } => {
                let (namespace, name) = self.staged(*key);
                let patch = json!({"stringData": {"credentials.json": "{\"password\": \"edited\"}"}});
                self.merge(&secret(namespace, &name), &patch);
            }
        }
    }

    fn with_process(&self, replica: usize, act: impl FnOnce(&Process)) {
        let processes = self.processes.lock();
        if let Some(process) = processes.get(replica % processes.len().max(1)) {
            act(process);
        }
    }

    /// Ends the trouble and corrects what only users can correct. ServiceKeys stay as they are, but rotate no more.
    pub fn make_peace(&mut self) {
        self.tasks.abort_all();
        // An idle process has few effects, so a crash could also happen hours later.
        self.processes.lock().iter().for_each(Process::survive);
        self.world.end_trouble();
        self.world.clock.correct();
        self.world.checks().refuse_secrets(false);
        for hook in ["mutate", "refuse"] {
            let _ = self.world.cluster.remove_hook(hook);
        }
        resume_watches(&self.world);
        for namespace in TENANTS {
            self.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace}}));
            self.send(Method::DELETE, &format!("/api/v1/namespaces/{namespace}/resourcequotas/none"), None);
        }
        for (number, side) in self.world.sides.iter().enumerate() {
            side.change(SideChange::RefuseLogin(false));
            side.change(SideChange::Occupied(false));
            side.certify_for(LONG_LIFE);
            self.world.see_side(number, Author::Other);
        }
        self.offer_workloads();
        self.offer_parameters();
        self.offer_providers();
        for object in self.world.cluster.objects("servicekeys") {
            let (namespace, name) = checks::place(&object);
            self.remove_guard(&namespace, &name);
            let rotation = json!({
                "every": null, "strategy": null, "overlap": "0s", "revokeWhen": null, "maxOverlap": null,
            });
            let patch = json!({"spec": {"suspend": false, "rotation": rotation}});
            self.merge(&service_key(&namespace, &name), &patch);
            self.follow_advice(&object);
            if text(&object, "/metadata/deletionTimestamp").is_none() {
                let foreign = secret(&namespace, &name);
                let found = self.send(Method::GET, &foreign, None).1;
                if found.pointer("/metadata/labels/example.com~1foreign").is_some() {
                    self.send(Method::DELETE, &foreign, None);
                }
            }
        }
    }

    /// Removes a label from each Secret of the operator. Nothing else wakes the ServiceKeys.
    pub fn remove_labels(&self) {
        for object in self.world.cluster.objects("secrets").iter().filter(|secret| checks::is_managed(secret))
        {
            let (namespace, name) = checks::place(object);
            self.merge(
                &secret(&namespace, &name),
                &json!({"metadata": {"labels": {MANAGED_BY_LABEL: null}}}),
            );
        }
    }

    /// Does what the condition of a ServiceKey tells its user to do.
    fn follow_advice(&self, object: &Value) {
        let (namespace, name) = checks::place(object);
        let advice = checks::ready(object);
        let is_refused = is_waiting_after_refusal(object) && self.world.services.are_healed();
        if advice.starts_with("CredentialsUnusable") || is_refused {
            self.rotate(&namespace, &name);
        }
        if !["SecretConflict", "RevokeFailed"].iter().any(|reason| advice.starts_with(reason)) {
            return;
        }
        if ["delete that Secret", "delete the Secret"].iter().any(|words| advice.contains(words)) {
            self.send(Method::DELETE, &secret(&namespace, &name), None);
        } else if advice.contains("servicekeys.dev/abandon") {
            let patch = json!({"metadata": {"annotations": {"servicekeys.dev/abandon": "true"}}});
            self.merge(&service_key(&namespace, &name), &patch);
            self.send(Method::DELETE, &service_key(&namespace, &name), None);
        }
    }

    fn send(&self, method: Method, target: &str, body: Option<&Value>) -> (u16, Value) {
        let mut call = Call::new(method.clone(), target);
        "user".clone_into(&mut call.caller);
        if let Some(body) = body {
            call = call.with_body(body);
        }
        if method == Method::PATCH {
            call = call.with_content_type(MERGE_PATCH);
        }
        let answer = self.world.request(&call);
        if method != Method::GET {
            self.world.journal.note("user", format_args!("{method} {target}: {}", answer.0));
        }
        answer
    }

    fn create(&self, target: &str, object: &Value) {
        self.send(Method::POST, target, Some(object));
    }

    fn merge(&self, target: &str, patch: &Value) {
        self.send(Method::PATCH, target, Some(patch));
    }

    fn rotate(&self, namespace: &str, name: &str) {
        let now = self.world.clock.now().to_string();
        let patch = json!({"metadata": {"annotations": {"servicekeys.dev/rotate": now}}});
        self.merge(&service_key(namespace, name), &patch);
    }

    fn apply(&self, number: usize, variant: u32) {
        let (namespace, name, side) = self.key(number);
        let place = service_key(namespace, &name);
        let (status, mut found) = self.send(Method::GET, &place, None);
        if status == 200 {
            found["spec"] = self.spec(number, side, variant);
            self.send(Method::PUT, &place, Some(&found));
        } else {
            self.create_service_key(number, variant);
        }
    }

    fn create_service_key(&self, number: usize, variant: u32) {
        let (namespace, name, side) = self.key(number);
        let key = custom("ServiceKey", json!({"name": name}), self.spec(number, side, variant));
        self.create(&format!("{API}/namespaces/{namespace}/servicekeys"), &key);
    }

    fn spec(&self, number: usize, side: usize, variant: u32) -> Value {
        let of = &self.world.sides[side];
        let kind = if self.plan.is_shared[side] { "ClusterKeyProvider" } else { "KeyProvider" };
        let mut spec = json!({
            "providerRef": {"kind": kind, "name": of.name},
            "instance": of.instance(),
        });
        match variant {
            1 => spec["parameters"] = json!({"size": 1}),
            2 => spec["secret"] = json!({"template": {"url": "x://{{ host }}"}}),
            3 => spec["rotation"] = json!({"every": "20m", "overlap": "3m"}),
            4 => spec["rotation"] = json!({"every": "30m", "strategy": "Replace"}),
            5 => spec["deletionPolicy"] = json!("Retain"),
            6 => spec["secret"] = json!({"previous": "Include", "labels": {"team": "a"}}),
            7 => {
                spec["parameters"] = json!({"size": 2});
                spec["rotation"] = json!({"every": "10m", "overlap": "9m"});
            }
            _ => {}
        }
        if matches!(variant, 1 | 2 | 3 | 6 | 7) {
            spec["rotation"]["restart"] = json!([{"kind": "Deployment", "name": WORKLOAD}]);
        }
        let number = number % self.plan.keys.len();
        if self.plan.follows_parameters[number] {
            let source = json!({"name": PARAMETERS, "key": "json"});
            spec["parametersFrom"] = json!([{"secretKeyRef": source, "onChange": "Rotate"}]);
        }
        if let Some(verify) = self.plan.verify[number].as_ref().filter(|_| variant != UNVERIFIED) {
            spec["rotation"]["verify"] = verify.clone();
        }
        if self.plan.waits_for_pods[number] && variant != 4 {
            let rotation = &mut spec["rotation"];
            rotation["revokeWhen"] = json!("ConsumersMoved");
            rotation["maxOverlap"] = json!("25m");
            if rotation["overlap"].is_null() {
                rotation["overlap"] = json!("2m");
            }
        }
        spec
    }

    /// Starts a pod, unless the Secret is missing: a kubelet does not start the container then.
    fn start_pod(&mut self, number: usize, late: Duration, ahead: Duration) {
        let (namespace, name, _) = self.key(number);
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let place = format!("{pods}/{name}");
        self.send(Method::DELETE, &place, None);
        let (status, known) = self.send(Method::GET, &secret(namespace, &name), None);
        if status != 200 {
            return;
        }
        let variables = json!([{"secretRef": {"name": name}}]);
        self.create(
            &pods,
            &json!({
                "metadata": {"name": name},
                "spec": {"containers": [{"name": "main", "envFrom": variables}]},
                "status": {"phase": "Pending"},
            }),
        );
        let pending = self.send(Method::GET, &place, None).1;
        let actors = self.alike();
        self.tasks.spawn(async move {
            sleep(late).await;
            let mut pod = actors.send(Method::GET, &place, None).1;
            if pod.pointer("/metadata/uid") != pending.pointer("/metadata/uid") {
                return;
            }
            let started = actors.world.clock.now().saturating_add(ahead).unwrap_or_default();
            let state = json!({"running": {"startedAt": started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}});
            let container = json!({"name": "main", "ready": true, "state": state});
            pod["status"] = json!({"phase": "Running", "containerStatuses": [container]});
            if actors.send(Method::PUT, &place, Some(&pod)).0 == 200 {
                actors.world.checks().start_pod((namespace.to_owned(), name), checks::current_texts(&known));
            }
        });
    }

    fn write_login(&self, side: usize, right: bool) {
        let of = &self.world.sides[side];
        let name = format!("{}-login", of.name);
        let login = json!({"metadata": {"name": name}, "stringData": of.login(right)});
        for namespace in self.namespaces_of_provider(side) {
            let place = secret(namespace, &name);
            if self.send(Method::GET, &place, None).0 == 200 {
                self.merge(&place, &json!({"stringData": of.login(right)}));
            } else {
                self.create(&format!("/api/v1/namespaces/{namespace}/secrets"), &login);
            }
        }
    }

    /// The namespaces that have the login, and the provider if it is a KeyProvider.
    fn namespaces_of_provider(&self, side: usize) -> Vec<&'static str> {
        if self.plan.is_shared[side] { vec![SYSTEM] } else { TENANTS.to_vec() }
    }

    fn create_provider(&self, side: usize) {
        let of = &self.world.sides[side];
        let mut spec = of.provider_spec();
        if self.plan.is_shared[side] {
            spec["allowedNamespaces"] = json!({"selector": {}});
            spec["rules"] = json!([{"restore": "Allow"}]);
            let provider = custom("ClusterKeyProvider", json!({"name": of.name}), spec);
            self.create(&format!("{API}/clusterkeyproviders"), &provider);
        } else {
            let provider = custom("KeyProvider", json!({"name": of.name}), spec);
            for namespace in TENANTS {
                self.create(&format!("{API}/namespaces/{namespace}/keyproviders"), &provider);
            }
        }
    }

    fn delete_provider(&self, side: usize) {
        let name = &self.world.sides[side].name;
        if self.plan.is_shared[side] {
            self.send(Method::DELETE, &format!("{API}/clusterkeyproviders/{name}"), None);
        } else {
            for namespace in TENANTS {
                let provider = format!("{API}/namespaces/{namespace}/keyproviders/{name}");
                self.send(Method::DELETE, &provider, None);
            }
        }
    }

    /// Something like this one, for a task of its own.
    fn alike(&self) -> Self {
        Self::new(Arc::clone(&self.world), self.plan.clone(), Arc::clone(&self.processes))
    }

    fn replace_provider(&mut self, side: usize, absent: Duration) {
        self.delete_provider(side);
        let actors = self.alike();
        self.tasks.spawn(async move {
            sleep(absent).await;
            actors.create_provider(side);
        });
    }

    fn delete_namespace(&mut self, absent: Duration) {
        let namespace = TENANTS[1];
        self.send(Method::DELETE, &format!("/api/v1/namespaces/{namespace}"), None);
        let actors = self.alike();
        self.tasks.spawn(async move {
            sleep(absent).await;
            actors.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace}}));
            actors.offer_parameters();
            actors.offer_providers();
        });
    }

    fn forge(&self, number: usize, sequence: u32) {
        let (namespace, name, _) = self.key(number);
        let place = secret(namespace, &name);
        let other = self.key(number + 1);
        let found = self.send(Method::GET, &secret(other.0, &other.1), None).1;
        let mut marks = found.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({}));
        marks["servicekeys.dev/sequence"] = sequence.to_string().into();
        self.merge(&place, &json!({"metadata": {"annotations": marks}}));
    }

    fn write_again(&mut self, number: usize, lasts: Duration) {
        let (namespace, name, _) = self.key(number);
        let (actors, place) = (self.alike(), secret(namespace, &name));
        let until = Instant::now() + lasts;
        self.tasks.spawn(async move {
            let mut seen = Value::Null;
            while Instant::now() < until {
                let found = actors.send(Method::GET, &place, None).1;
                let version = found.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
                if version != seen {
                    let patch = json!({"data": {"password": "c2Vjb25kLXdyaXRlcg=="}});
                    let written = actors.send(Method::PATCH, &place, Some(&patch)).1;
                    seen = written.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
                }
                sleep(Duration::from_millis(700)).await;
            }
        });
    }

    fn guard(&mut self, number: usize, lasts: Duration) {
        let (namespace, name, _) = self.key(number);
        let place = service_key(namespace, &name);
        let found = self.send(Method::GET, &place, None).1;
        let finalizers = finalizers(&found).chain([GUARD]).collect::<Vec<_>>();
        self.merge(&place, &json!({"metadata": {"finalizers": finalizers}}));
        let actors = self.alike();
        self.tasks.spawn(async move {
            sleep(lasts).await;
            actors.remove_guard(namespace, &name);
        });
    }

    fn remove_guard(&self, namespace: &str, name: &str) {
        let place = service_key(namespace, name);
        let found = self.send(Method::GET, &place, None).1;
        if finalizers(&found).any(|finalizer| finalizer == GUARD) {
            let kept: Vec<_> = finalizers(&found).filter(|finalizer| *finalizer != GUARD).collect();
            self.merge(&place, &json!({"metadata": {"finalizers": kept}}));
        }
    }

    fn reapply(&mut self, number: usize, variant: u32, lasts: Duration) {
        let (actors, until) = (self.alike(), Instant::now() + lasts);
        self.tasks.spawn(async move {
            while Instant::now() < until {
                actors.apply(number, variant);
                sleep(Duration::from_secs(30)).await;
            }
        });
    }

    fn restore(&self) {
        for process in self.processes.lock().iter() {
            process.end();
        }
        let keys = self.world.cluster.objects("servicekeys");
        let secrets = self.world.cluster.objects("secrets");
        let secrets: Vec<_> = secrets.into_iter().filter(checks::is_managed).collect();
        for key in &keys {
            let (namespace, name) = checks::place(key);
            self.merge(&service_key(&namespace, &name), &json!({"metadata": {"finalizers": null}}));
            self.send(Method::DELETE, &service_key(&namespace, &name), None);
        }
        for object in &secrets {
            let (namespace, name) = checks::place(object);
            self.send(Method::DELETE, &secret(&namespace, &name), None);
        }
        let is_deleting = |key: &&Value| text(key, "/metadata/deletionTimestamp").is_some();
        let deleted: Vec<_> = keys.iter().filter(is_deleting).map(checks::place).collect();
        for secret in secrets.iter().filter(|secret| !deleted.contains(&checks::place(secret))) {
            let namespace = checks::place(secret).0;
            let copy = json!({"metadata": backed_up(secret), "data": secret["data"], "type": secret["type"]});
            self.create(&format!("/api/v1/namespaces/{namespace}/secrets"), &copy);
        }
        for key in keys.iter().filter(|key| !is_deleting(key)) {
            let namespace = checks::place(key).0;
            let copy = custom("ServiceKey", backed_up(key), key["spec"].clone());
            self.create(&format!("{API}/namespaces/{namespace}/servicekeys"), &copy);
        }
    }

    fn mutate_for(&mut self, lasts: Duration) {
        self.world.cluster.add_mutating_hook(
            "mutate",
            Arc::new(move |review, object| {
                if review.resource == "secrets" {
                    object["metadata"]["labels"]["policy.example.com/seen"] = "yes".into();
                }
            }),
        );
        self.remove_hook_after("mutate", lasts);
    }

    fn refuse_for(&mut self, lasts: Duration) {
        self.world.cluster.add_validating_hook(
            "refuse",
            Arc::new(|review, _| {
                if review.resource == "secrets" && review.caller != "user" && review.verb != Verb::Delete {
                    return Err((403, "no Secrets today".to_owned()));
                }
                Ok(())
            }),
        );
        self.world.checks().refuse_secrets(true);
        self.remove_hook_after("refuse", lasts);
    }

    fn remove_hook_after(&mut self, hook: &'static str, lasts: Duration) {
        let world = Arc::clone(&self.world);
        self.tasks.spawn(async move {
            sleep(lasts).await;
            let _ = world.cluster.remove_hook(hook);
            if hook == "refuse" {
                world.checks().refuse_secrets(false);
            }
        });
    }

    fn limit_for(&mut self, lasts: Duration) {
        let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"count/secrets": "0"}}});
        for namespace in TENANTS {
            self.create(&format!("/api/v1/namespaces/{namespace}/resourcequotas"), &quota);
        }
        let actors = self.alike();
        self.tasks.spawn(async move {
            sleep(lasts).await;
            for namespace in TENANTS {
                let quota = format!("/api/v1/namespaces/{namespace}/resourcequotas/none");
                actors.send(Method::DELETE, &quota, None);
            }
        });
    }

    fn stall_watches(&mut self, lasts: Duration) {
        let watches: Vec<_> = self.world.cluster.watches().into_iter().map(|watch| watch.id).collect();
        watches.iter().for_each(|watch| self.world.cluster.pause_watch(*watch));
        let world = Arc::clone(&self.world);
        self.tasks.spawn(async move {
            sleep(lasts).await;
            watches.iter().for_each(|watch| world.cluster.resume_watch(*watch));
        });
    }

    fn delay_watches(&mut self, lag: Duration, lasts: Duration) {
        let (world, began) = (Arc::clone(&self.world), Instant::now());
        self.tasks.spawn(async move {
            let of_service_keys = || {
                let watches = world.cluster.watches().into_iter();
                watches.filter(|watch| watch.resource == "servicekeys")
            };
            let mut next = began + lag;
            while began.elapsed() < lasts {
                let is_due = next <= Instant::now();
                for watch in of_service_keys() {
                    if !watch.is_paused {
                        world.cluster.pause_watch(watch.id);
                    }
                    if is_due {
                        world.cluster.deliver(watch.id, watch.undelivered);
                    }
                }
                if is_due {
                    next += lag;
                }
                sleep(NEW_WATCHES).await;
            }
            of_service_keys().for_each(|watch| world.cluster.resume_watch(watch.id));
        });
    }
}

/// The hostile tenant, and what misleads the operator.
impl Actors {
    /// Creates a provider and a ServiceKey of the hostile tenant.
    fn attack(&self, number: usize, attack: Attack) {
        let World { hostile, sides, .. } = &*self.world;
        self.create("/api/v1/namespaces", &json!({"metadata": {"name": HOSTILE}}));
        let login = json!({"metadata": {"name": LOGIN}, "stringData": hostile.login()});
        self.create(&format!("/api/v1/namespaces/{HOSTILE}/secrets"), &login);
        let name = json!({"name": format!("{HOSTILE}-{number}")});
        let provider = custom("KeyProvider", name.clone(), hostile.provider_spec(attack, sides));
        self.create(&format!("{API}/namespaces/{HOSTILE}/keyproviders"), &provider);
        let spec = json!({
            "providerRef": {"kind": "KeyProvider", "name": name["name"]},
            "instance": hostile.instance(attack, sides),
        });
        self.create(&format!("{API}/namespaces/{HOSTILE}/servicekeys"), &custom("ServiceKey", name, spec));
    }

    /// Deletes everything that the hostile tenant has. Its remote side revokes nothing, so its keys are given up. Returns
    /// whether it had anything.
    pub fn evict_hostile(&self) -> bool {
        for object in self.world.cluster.objects("servicekeys") {
            let (namespace, name) = checks::place(&object);
            if namespace == HOSTILE {
                let patch = json!({"metadata": {"annotations": {"servicekeys.dev/abandon": "true"}}});
                self.merge(&service_key(&namespace, &name), &patch);
                self.send(Method::DELETE, &service_key(&namespace, &name), None);
            }
        }
        self.send(Method::DELETE, &format!("/api/v1/namespaces/{HOSTILE}"), None).0 == 200
    }

    /// Deletes all ServiceKeys.
    pub fn delete_all(&self) {
        for object in self.world.cluster.objects("servicekeys") {
            let (namespace, name) = checks::place(&object);
            self.send(Method::DELETE, &service_key(&namespace, &name), None);
        }
    }

    /// Pauses each watch at times of its own. The events of one watch keep their order, as at a real API server, and
    /// those of different watches do not.
    fn reorder_watches(&mut self, lasts: Duration) {
        let (world, chance) = (Arc::clone(&self.world), self.world.hostile.chance().fork());
        let until = Instant::now() + lasts;
        self.tasks.spawn(async move {
            while Instant::now() < until {
                for watch in world.cluster.watches() {
                    match chance.below(10) {
                        0..=2 => world.cluster.pause_watch(watch.id),
                        3 => world.cluster.deliver(watch.id, 1),
                        4..=6 => world.cluster.resume_watch(watch.id),
                        _ => {}
                    }
                }
                sleep(chance.millis(20..4000)).await;
            }
            resume_watches(&world);
        });
    }
}

impl std::fmt::Debug for Actors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actors").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Ends the pause of each watch.
fn resume_watches(world: &World) {
    for watch in world.cluster.watches() {
        world.cluster.resume_watch(watch.id);
    }
}

/// An object of one of the operator's own kinds.
fn custom(kind: &str, metadata: Value, spec: Value) -> Value {
    json!({"apiVersion": "servicekeys.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

fn service_key(namespace: &str, name: &str) -> String {
    format!("{API}/namespaces/{namespace}/servicekeys/{name}")
}

fn secret(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets/{name}")
}

fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    let all = object.pointer("/metadata/finalizers").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str)
}

/// Whether the operator waits because the service did not accept a key.
fn is_waiting_after_refusal(key: &Value) -> bool {
    key.pointer("/status/verification/retryAt").is_some()
}

/// The metadata that a backup keeps.
fn backed_up(object: &Value) -> Value {
    let mut kept = json!({});
    for field in ["name", "labels", "annotations", "finalizers"] {
        if let Some(value) = object["metadata"].get(field) {
            kept[field] = value.clone();
        }
    }
    kept
}
