//! Users who may view or edit a namespace may do the same with its ServiceKeys and KeyProviders, and see no further
//! Secrets.

use k8s_openapi::api::{core::v1::Secret, rbac::v1::ClusterRole};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use servicekey_operator::api::{KeyProvider, ServiceKey, custom_resource_definitions};
use testkit::control_plane::{ControlPlane, User, documents};

use crate::chart::template;

const KEY: &str = include_str!("../good_manifests/key_minimal.yaml");

/// A namespace, and a user who has this role there.
async fn with_role(role: &str, shipped: &[&str]) -> (&'static ControlPlane, String, User) {
    let plane = ControlPlane::shared().await.unwrap();
    plane.install_crds(&custom_resource_definitions()).await.unwrap();
    let roles = documents(&template(&["--show-only", "templates/user-roles.yaml"]).await.unwrap()).unwrap();
    let (place, user) = (plane.namespace("team").await.unwrap(), plane.new_user().unwrap());
    plane.grant_in(&place, &user, role).await.unwrap();
    for object in &roles {
        plane.apply(object).await.unwrap();
        let role: ClusterRole = object.clone().try_parse().unwrap();
        if shipped.contains(&role.metadata.name.as_deref().unwrap()) {
            plane.until_allowed(&user, &role.rules.unwrap(), Some(&place)).await.unwrap();
        }
    }
    (plane, place, user)
}

fn is_forbidden<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> bool {
    matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403)
}

#[tokio::test]
async fn a_viewer_sees_keys_and_no_secret_and_changes_nothing() {
    let (plane, place, viewer) = with_role("view", &["servicekey-operator-view"]).await;
    let client = plane.client_as(&viewer);
    let keys: Api<ServiceKey> = Api::namespaced(client.clone(), &place);
    let providers: Api<KeyProvider> = Api::namespaced(client.clone(), &place);
    let secrets: Api<Secret> = Api::namespaced(client, &place);
    keys.list(&ListParams::default()).await.unwrap();
    providers.list(&ListParams::default()).await.unwrap();
    assert!(is_forbidden(secrets.list(&ListParams::default()).await));
    let key: ServiceKey = serde_saphyr::from_str(KEY).unwrap();
    assert!(is_forbidden(keys.create(&dry_run(), &in_place(key, &place)).await));
}

#[tokio::test]
async fn an_editor_makes_keys_and_writes_no_status() {
    let shipped = ["servicekey-operator-view", "servicekey-operator-edit"];
    let (plane, place, editor) = with_role("edit", &shipped).await;
    let keys: Api<ServiceKey> = Api::namespaced(plane.client_as(&editor), &place);
    let key = in_place(serde_saphyr::from_str(KEY).unwrap(), &place);
    let created = keys.create(&PostParams::default(), &key).await.unwrap();
    let name = created.metadata.name.clone().unwrap();
    assert!(is_forbidden(keys.replace_status(&name, &dry_run(), &created).await));
}

fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn in_place(mut key: ServiceKey, place: &str) -> ServiceKey {
    key.metadata.namespace = Some(place.to_owned());
    key
}
