//! Runs one case: injects the answer under test, observes the operator's reaction, and checks that there is exactly one
//! key at the end, and none after the deletion.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::broker::{FakeBroker, Gate, Moment};

use crate::{
    case::{Call, Case, Outcome},
    script::{INSTANCE, OFFERING, PLAN},
    sight::{is_ready, shown},
    stage::Stage,
    witness::History,
};

/// Runs a case, with objects of this name.
pub async fn play(stage: &Stage, name: &str, case: Case) -> Outcome {
    let broker = case.start_broker().await;
    stage.create_provider(name, &broker.url()).await;
    let scene = Scene { stage, name, case, broker };
    match case.call {
        Call::Bind | Call::PollOfBind | Call::FetchOfMade => scene.while_a_key_is_made().await,
        Call::FetchOfLost => scene.while_a_secret_is_restored().await,
        Call::Unbind | Call::PollOfUnbind => scene.while_a_key_is_revoked().await,
    }
}

struct Scene<'a> {
    stage: &'a Stage,
    /// The name of the ServiceKey, its Secret and its provider.
    name: &'a str,
    case: Case,
    broker: FakeBroker,
}

impl Scene<'_> {
    async fn while_a_key_is_made(self) -> Outcome {
        let gate = self.arm();
        self.create_key().await;
        let struck = self.strike(gate).await;
        self.outlast(0).await;
        self.ask_again_where_it_rests().await;
        let history = self.wait(0, "ready", is_ready).await;
        let outcome = self.outcome(struck, &history);
        self.assert_one_key(history.last().unwrap()).await;
        self.delete_and_leave_nothing().await;
        outcome
    }

    async fn while_a_secret_is_restored(self) -> Outcome {
        self.create_key().await;
        let ready = self.wait(0, "ready", is_ready).await.pop().unwrap();
        let gate = self.arm();
        let begin = self.stage.keys.count(self.name);
        self.stage.secret_api().delete(self.name, &DeleteParams::default()).await.unwrap();
        let struck = self.strike(gate).await;
        let restored = |key: &ServiceKey| is_ready(key) && secret_version(key) != secret_version(&ready);
        let history = self.wait(begin, "ready again", restored).await;
        let outcome = self.outcome(struck, &history);
        // A key that is replaced because its credentials are not shown again stays for an hour.
        let shown = history.last().unwrap().status.as_ref().unwrap();
        let living = 1 + shown.previous_keys.len();
        self.broker.wait_until(|bindings| bindings.len() == living).await.unwrap();
        self.assert_holds_its_key(history.last().unwrap()).await;
        self.delete_and_leave_nothing().await;
        outcome
    }

    async fn while_a_key_is_revoked(self) -> Outcome {
        self.create_key().await;
        let ready = self.wait(0, "ready", is_ready).await.pop().unwrap();
        self.assert_one_key(&ready).await;
        let gate = self.arm();
        let begin = self.stage.keys.count(self.name);
        self.delete_key().await;
        let struck = self.strike(gate).await;
        self.outlast(begin).await;
        let history = self.wait_gone().await;
        self.assert_nothing_left().await;
        self.outcome(struck, &history.versions[begin..])
    }

    /// Injects the answer into the next call of the case's kind, and blocks that call.
    fn arm(&self) -> Gate {
        self.broker.change_pace(self.case.pace());
        self.broker.inject(self.case.injection());
        self.broker.gate(self.case.call.route(), Moment::AfterEffect)
    }

    /// Waits for the call under test, and returns its index among all calls. Afterwards the broker works as usual. It
    /// completes the work that it began, because the operator may never poll it.
    async fn strike(&self, gate: Gate) -> usize {
        gate.wait_for_arrival().await.unwrap();
        let struck = self.broker.calls().iter().rposition(|call| call.route == self.case.call.route());
        let _ = self.broker.finish_all();
        self.broker.change_pace(self.case.broker.pace());
        gate.release();
        struck.unwrap()
    }

    /// If the answer is repeated, waits until the condition shows it, or until no further call gets it.
    async fn outlast(&self, begin: usize) {
        if !self.case.lasts() {
            return;
        }
        let over =
            |key: &ServiceKey| shown(key).is_some() || (self.case.call == Call::PollOfBind && is_ready(key));
        let over =
            |history: &History<ServiceKey>| history.gone || history.versions.iter().skip(begin).any(over);
        self.stage.keys.wait(self.name, "told of", over).await;
        self.broker.clear_faults();
    }

    /// If the operator makes no further call for hours, requests another attempt in the way that its condition says.
    async fn ask_again_where_it_rests(&self) {
        let rests = |key: &ServiceKey| {
            shown(key).is_some_and(|shown| shown.stalled && shown.reason == Reason::CredentialsUnusable)
        };
        let met =
            |history: &History<ServiceKey>| history.versions.iter().any(|key| rests(key) || is_ready(key));
        let history = self.stage.keys.wait(self.name, "ready or at rest", met).await;
        if history.versions.iter().any(rests) {
            let again = json!({"metadata": {"annotations": {"servicekeys.dev/rotate": "again"}}});
            let api = self.stage.key_api();
            api.patch(self.name, &PatchParams::default(), &Patch::Merge(again)).await.unwrap();
        }
    }

    async fn create_key(&self) {
        self.stage.create_key(self.name, INSTANCE, OFFERING, PLAN).await;
    }

    async fn delete_key(&self) {
        self.stage.key_api().delete(self.name, &DeleteParams::default()).await.unwrap();
    }

    /// The versions of the ServiceKey from the one at `begin` until the first for which `met` holds.
    async fn wait(&self, begin: usize, what: &str, met: impl Fn(&ServiceKey) -> bool) -> Vec<ServiceKey> {
        let end = |history: &History<ServiceKey>| history.versions.iter().skip(begin).position(&met);
        let history = self.stage.keys.wait(self.name, what, |history| end(history).is_some()).await;
        let end = end(&history).unwrap();
        history.versions.into_iter().skip(begin).take(end + 1).collect()
    }

    async fn wait_gone(&self) -> History<ServiceKey> {
        self.stage.keys.wait(self.name, "gone", |history| history.gone).await
    }

    async fn delete_and_leave_nothing(&self) {
        self.delete_key().await;
        self.wait_gone().await;
        self.assert_nothing_left().await;
    }

    /// Fails unless the broker's only binding is the one that the status names, with its credentials in the Secret.
    async fn assert_one_key(&self, key: &ServiceKey) {
        let bindings = self.broker.bindings();
        assert_eq!(bindings.len(), 1, "{bindings:?}");
        self.assert_holds_its_key(key).await;
    }

    /// Fails unless the Secret contains the credentials of the key that the status names.
    async fn assert_holds_its_key(&self, key: &ServiceKey) {
        let id = &key.status.as_ref().unwrap().key.as_ref().unwrap().id;
        let binding = self.broker.binding(id.parse().unwrap()).expect("the key is at the broker");
        let secret = self.stage.secret_api().get(self.name).await.unwrap();
        let held = secret.data.unwrap().remove("password").unwrap().0;
        // `assert_eq` would print the credentials.
        assert!(held == binding.credentials["password"].as_str().unwrap().as_bytes(), "other credentials");
    }

    async fn assert_nothing_left(&self) {
        assert_eq!(self.broker.bindings(), []);
        let secret = self.stage.secret_api().get_opt(self.name).await.unwrap();
        assert!(secret.is_none(), "the Secret is still there");
    }

    fn outcome(&self, struck: usize, versions: &[ServiceKey]) -> Outcome {
        Outcome::of(self.case, versions, &self.broker.calls(), struck)
    }
}

fn secret_version(key: &ServiceKey) -> Option<&str> {
    Some(&key.status.as_ref()?.secret.as_ref()?.resource_version)
}
