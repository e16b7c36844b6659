//! A backup tool restores ServiceKeys and their Secrets: it keeps labels, annotations and finalizers, and drops UIDs,
//! owner references and statuses. The credentials stay in use. The operator creates no second key and leaves none
//! behind.

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use rstest::rstest;
use serde_json::json;
use servicekey_operator::api::{Reason, ServiceKey, marks};
use testkit::{
    Moment,
    broker::{Fault, Route, StatusCode},
    cloud_foundry,
    gateway::{Method, Requests},
    ibm_cloud,
};

use crate::support::{
    foundry::FoundryStage,
    ibm::IbmStage,
    process::Process,
    stage::{Stage, condition, entries, reason},
};

const NAME: &str = "monitoring-creds";

/// A stage with one of the three remote sides.
enum Side {
    Broker(Stage),
    Foundry(FoundryStage),
    Ibm(IbmStage),
}

impl Side {
    async fn set(kind: &str) -> Self {
        match kind {
            "broker" => Self::Broker(Stage::set().await),
            "foundry" => Self::Foundry(FoundryStage::set().await),
            _ => Self::Ibm(IbmStage::set().await),
        }
    }

    fn stage(&self) -> &Stage {
        match self {
            Self::Broker(stage) => stage,
            Self::Foundry(stage) => stage,
            Self::Ibm(stage) => stage,
        }
    }

    async fn create_key(&self) -> ServiceKey {
        let mut manifest = match self {
            Self::Broker(stage) => stage.key_manifest(NAME),
            Self::Foundry(stage) => stage.manifest(NAME),
            Self::Ibm(stage) => stage.manifest(NAME),
        };
        manifest["spec"]["rotation"] = json!({"overlap": "0s"});
        self.stage().create::<ServiceKey>(manifest).await;
        self.stage().wait_ready_with_id(NAME).await
    }

    /// The ids of the keys that are not revoked.
    fn living(&self) -> Vec<String> {
        match self {
            Self::Broker(stage) => {
                stage.broker.bindings().into_iter().map(|binding| binding.id.to_string()).collect()
            }
            Self::Foundry(stage) => stage.foundry.live_keys().into_iter().map(|key| key.guid).collect(),
            Self::Ibm(stage) => stage.ibm.live_keys().into_iter().map(|key| key.guid).collect(),
        }
    }

    /// The number of requests to create a key.
    fn creations(&self) -> usize {
        match self {
            Self::Broker(stage) => stage.broker.count(Route::Bind),
            Self::Foundry(stage) => stage.count(&[cloud_foundry::Route::Create]),
            Self::Ibm(stage) => stage.count(&[ibm_cloud::Route::CreateKey]),
        }
    }

    async fn delete_and_leave_nothing(&self) {
        self.stage().delete_key(NAME).await;
        self.wait_until_nothing_is_left().await;
    }

    async fn wait_until_nothing_is_left(&self) {
        let stage = self.stage();
        stage.wait_gone(NAME).await;
        assert_eq!(self.living(), Vec::<String>::new());
        assert!(stage.secrets().get_opt(NAME).await.unwrap().is_none(), "the Secret is still there");
    }
}

struct Backup {
    key: ServiceKey,
    secret: Secret,
}

impl Backup {
    async fn take(stage: &Stage) -> Self {
        let mut key = stage.keys().get(NAME).await.unwrap();
        let mut secret = stage.secrets().get(NAME).await.unwrap();
        (key.metadata, key.status) = (as_kept(key.metadata), None);
        secret.metadata = as_kept(secret.metadata);
        Self { key, secret }
    }

    /// Deletes both objects. No operator may be running, because it would revoke the key.
    async fn lose(stage: &Stage) {
        let nothing = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        stage.keys().patch(NAME, &PatchParams::default(), &nothing).await.unwrap();
        stage.secrets().delete(NAME, &DeleteParams::default()).await.unwrap();
        stage.keys().delete(NAME, &DeleteParams::default()).await.unwrap();
        stage.wait_gone(NAME).await;
    }

    /// Creates both objects again, the Secret first, as backup tools do.
    async fn restore(&self, stage: &Stage) -> ServiceKey {
        stage.secrets().create(&PostParams::default(), &self.secret).await.unwrap();
        stage.keys().create(&PostParams::default(), &self.key).await.unwrap()
    }
}

fn as_kept(metadata: ObjectMeta) -> ObjectMeta {
    let ObjectMeta { name, namespace, labels, annotations, finalizers, .. } = metadata;
    ObjectMeta { name, namespace, labels, annotations, finalizers, ..ObjectMeta::default() }
}

/// Returns a ServiceKey with its first key, the same ServiceKey restored under a new UID, and the backup.
async fn restored(side: &Side, operator_is_there: bool) -> (ServiceKey, ServiceKey, Backup) {
    let stage = side.stage();
    let operator = stage.start_operator().await;
    let before = side.create_key().await;
    drop(operator);
    let backup = Backup::take(stage).await;
    Backup::lose(stage).await;
    let operator = if operator_is_there { Some(stage.start_operator().await) } else { None };
    let after = backup.restore(stage).await;
    drop(operator);
    assert_ne!(before.uid(), after.uid());
    (before, after, backup)
}

/// Creates a ServiceKey at the broker, deletes it, and returns its backup.
async fn lost(stage: &Stage) -> Backup {
    let operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    drop(operator);
    let backup = Backup::take(stage).await;
    Backup::lose(stage).await;
    backup
}

fn former_uid(key: &ServiceKey) -> Option<&str> {
    key.status.as_ref()?.former_uid.as_deref()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_service_key_goes_on_with_its_key(
    #[values("broker", "foundry", "ibm")] kind: &str,
    #[values(false, true)] operator_is_there: bool,
) {
    let side = Side::set(kind).await;
    let stage = side.stage();
    let (before, after, backup) = restored(&side, operator_is_there).await;
    let (living, creations) = (side.living(), side.creations());

    let _operator = stage.start_operator().await;
    let ready = stage.wait_ready_with_id(NAME).await;
    let known = |key: &ServiceKey| key.status.clone().unwrap().key.unwrap();
    assert_eq!((known(&ready).sequence, known(&ready).id), (1, known(&before).id));
    assert_eq!(former_uid(&ready), before.metadata.uid.as_deref());
    let is_owned = |secret: Option<&Secret>| {
        let owners = secret.iter().flat_map(|secret| secret.owner_references());
        let uids: Vec<_> = owners.map(|owner| Some(&owner.uid)).collect();
        uids == [after.metadata.uid.as_ref()]
    };
    let secret = stage.wait(stage.secrets(), NAME, "owned again", is_owned).await.unwrap();
    assert!(entries(&secret) == entries(&backup.secret), "the credentials differ from the backup");
    assert_eq!(secret.labels().get(marks::OWNER_UID_LABEL), after.metadata.uid.as_ref());
    assert_eq!(secret.annotations().get(marks::FORMER_UID_ANNOTATION), before.metadata.uid.as_ref());
    assert_eq!((side.living(), side.creations()), (living, creations));
    side.delete_and_leave_nothing().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_service_key_rotates_in_order(#[values("broker", "foundry", "ibm")] kind: &str) {
    let side = Side::set(kind).await;
    let stage = side.stage();
    restored(&side, false).await;
    let (old, creations) = (side.living(), side.creations());

    let _operator = stage.start_operator().await;
    stage.wait_ready_with_id(NAME).await;
    stage.request_rotation(json!("now")).await;
    stage.wait_settled_with(2).await;
    let living = side.living();
    assert_eq!((living.len(), side.creations()), (1, creations + 1));
    assert_ne!(living, old);
    side.delete_and_leave_nothing().await;
}

/// The second backup names both the ServiceKey of the first backup and the original one.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_key_that_is_restored_twice_has_the_same_key(
    #[values("broker", "foundry", "ibm")] kind: &str,
) {
    let side = Side::set(kind).await;
    let stage = side.stage();
    let (before, ..) = restored(&side, false).await;
    let (living, creations) = (side.living(), side.creations());
    let operator = stage.start_operator().await;
    stage.wait_ready_with_id(NAME).await;
    let marked = |secret: Option<&Secret>| {
        secret.is_some_and(|secret| secret.annotations().contains_key(marks::FORMER_UID_ANNOTATION))
    };
    stage.wait(stage.secrets(), NAME, "marked", marked).await;
    drop(operator);
    let backup = Backup::take(stage).await;
    Backup::lose(stage).await;
    backup.restore(stage).await;

    let _operator = stage.start_operator().await;
    let ready = stage.wait_ready_with_id(NAME).await;
    assert_eq!(former_uid(&ready), before.metadata.uid.as_deref());
    assert_eq!((side.living(), side.creations()), (living, creations));
    side.delete_and_leave_nothing().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_service_key_that_is_deleted_at_once_leaves_nothing(
    #[values("broker", "foundry", "ibm")] kind: &str,
) {
    let side = Side::set(kind).await;
    let stage = side.stage();
    restored(&side, false).await;
    assert_eq!(side.living().len(), 1);
    stage.delete_key(NAME).await;
    let _operator = stage.start_operator().await;
    side.wait_until_nothing_is_left().await;
}

/// The Secret is also missing from the backup, so the operator has no credentials to continue with.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_key_that_is_restored_without_its_secret_gets_another_key() {
    let stage = Stage::set().await;
    let backup = lost(&stage).await;
    stage.keys().create(&PostParams::default(), &backup.key).await.unwrap();
    let _operator = stage.start_operator().await;
    let ready = stage.wait_ready(NAME).await;
    assert_eq!((former_uid(&ready), stage.broker.bindings().len()), (None, 2));
}

/// Two ServiceKeys can't share one key: it belongs to the one that was restored first.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_restored_secret_gives_nobody_the_key() {
    let stage = Stage::set().await;
    let backup = lost(&stage).await;
    backup.restore(&stage).await;
    let _operator = stage.start_operator().await;
    stage.wait_ready(NAME).await;

    let mut copy = backup.secret.clone();
    copy.metadata.name = Some("copy".to_owned());
    stage.secrets().create(&PostParams::default(), &copy).await.unwrap();
    stage.create_key("copy").await;
    let conflict = |key: Option<&ServiceKey>| {
        key.is_some_and(|key| reason(key, "Ready") == Some(Reason::SecretConflict.as_str()))
    };
    stage.wait(stage.keys(), "copy", "refused", conflict).await;
    stage.delete_key("copy").await;
    stage.wait_gone("copy").await;
    assert_eq!(stage.broker.bindings().len(), 1);
    let key = stage.keys().get(NAME).await.unwrap();
    assert_eq!(condition(&key, "Ready"), Some("True"));
}

/// A user removed the ServiceKey by force while the broker was unreachable. The operator is revoking its key, so no
/// restored ServiceKey may continue with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_being_revoked_is_not_gone_on_with() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    stage.create_key(NAME).await;
    stage.wait_ready(NAME).await;
    let backup = Backup::take(&stage).await;
    let away = Fault::Status(StatusCode::SERVICE_UNAVAILABLE, json!({})).on(Route::Unbind).times(1000);
    stage.broker.inject(away);
    let patches = Requests::to(Method::PATCH, "servicekeys/*");
    let finalizer = operator.gateway.gate(patches, Moment::BeforeEffect);
    Backup::lose(&stage).await;
    finalizer.release();
    stage.broker.wait_for_calls(|calls| calls.iter().any(|call| call.route == Route::Unbind)).await.unwrap();

    backup.restore(&stage).await;
    let conflict = |key: Option<&ServiceKey>| {
        key.is_some_and(|key| reason(key, "Ready") == Some(Reason::SecretConflict.as_str()))
    };
    stage.wait(stage.keys(), NAME, "refused", conflict).await;
    stage.broker.clear_faults();
    let ready = stage.wait_ready_with_the_only_key(NAME).await;
    assert_eq!(former_uid(&ready), None, "the former key was revoked");
}
