//! Deletions that explain why a login Secret is being deleted. A user who deletes a namespace, a provider or a
//! ServiceKey still needs the login, so that the operator can revoke keys with it.
//!
//! # Guarantees
//! - The answer is the API server's, and not older than the question. Caches show a deletion minutes later if their
//!   watches fail, for example in a replica that becomes the leader after an outage.

use std::{collections::HashMap, fmt::Debug, sync::Arc};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource, ResourceExt, core::PartialObjectMeta};
use serde::de::DeserializeOwned;

use super::{Provider, orphans::ObjectPages};
use crate::{
    api::ServiceKey,
    controller::{error::Error, ids::ProviderId, shared::Shared},
};

/// Whether a login Secret's namespace, its provider, or a ServiceKey of that provider is being deleted. The Secret must
/// have been read before.
///
/// # Errors
/// When the Kubernetes API fails.
pub(super) async fn are_under_way<K: Provider>(
    shared: &Shared,
    provider: &K,
    namespace: &str,
) -> Result<bool, Error> {
    let client = &shared.client;
    // An operator that serves single namespaces may not read them. Their deletion also deletes the provider.
    if shared.options.namespaces.is_none()
        && is_deleted(Api::<Namespace>::all(client.clone()), namespace).await?
    {
        return Ok(true);
    }
    Ok(is_deleted(provider.api(client.clone()), &provider.name_any()).await?
        || has_deleted_keys(client, &provider.id(), &shared.index.known_service_keys()).await?)
}

/// Whether an object is being deleted, or is gone.
async fn is_deleted<K>(api: Api<K>, name: &str) -> Result<bool, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let found = ObjectPages::of_name(api, name).next("look up whether an object is being deleted").await?;
    Ok(found.into_iter().flatten().all(|object| is_being_deleted(&object)))
}

/// Whether a ServiceKey that names the provider, or that is not `known` yet, is being deleted.
async fn has_deleted_keys(
    client: &Client,
    provider: &ProviderId,
    known: &[Arc<ServiceKey>],
) -> Result<bool, Error> {
    let uses_provider: HashMap<_, _> =
        known.iter().filter_map(|key| Some((key.uid()?, ProviderId::from_key(key) == *provider))).collect();
    let may_use_provider = |key: &PartialObjectMeta<ServiceKey>| {
        key.uid().and_then(|uid| uses_provider.get(&uid).copied()).unwrap_or(true)
    };
    let keys: Api<ServiceKey> = match &provider.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut pages = ObjectPages::new(keys);
    while let Some(page) = pages.next("list the ServiceKeys that are being deleted").await? {
        if page.iter().any(|key| is_being_deleted(key) && may_use_provider(key)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_being_deleted(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use rstest::rstest;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::api::KeyProvider;

    /// A client of an API server that answers each list with these objects. The list must be of this URI.
    fn listing(uri: &'static str, objects: &Value) -> Client {
        let list = json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": objects,
        });
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        tokio::spawn(async move {
            while let Some((request, answer)) = handle.next_request().await {
                assert_eq!(request.uri().to_string(), uri);
                answer.send_response(Response::new(Body::from(list.to_string().into_bytes())));
            }
        });
        Client::new(service, "default")
    }

    fn object(uid: u128, is_deleted: bool) -> Value {
        let at = is_deleted.then_some("2026-11-24T12:00:00Z");
        json!({"metadata": {"name": "a", "uid": Uuid::from_u128(uid), "deletionTimestamp": at}})
    }

    #[rstest]
    #[case::it_exists(json!([object(1, false)]), false)]
    #[case::it_is_being_deleted(json!([object(1, true)]), true)]
    #[case::it_is_gone(json!([]), true)]
    #[tokio::test]
    async fn a_deletion_that_no_cache_shows_counts(#[case] found: Value, #[case] is: bool) {
        let uri = "/apis/servicekeys.dev/v1alpha1/namespaces/apps/keyproviders?&fieldSelector=metadata.name%3Dcf&limit=50";
        let api: Api<KeyProvider> = Api::namespaced(listing(uri, &found), "apps");
        assert_eq!(is_deleted(api, "cf").await.unwrap(), is);
    }

    #[rstest]
    #[case::of_the_provider(1, true, true)]
    #[case::of_another_provider(2, true, false)]
    #[case::of_none_that_is_known(3, true, true)]
    #[case::none_is_being_deleted(1, false, false)]
    #[tokio::test]
    async fn a_service_key_that_is_being_deleted_counts_if_it_may_use_the_provider(
        #[case] uid: u128,
        #[case] is_deleted: bool,
        #[case] counts: bool,
    ) {
        let known = [(1, "cf"), (2, "other")].map(|(uid, provider)| {
            let key = json!({
                "metadata": {"namespace": "apps", "uid": Uuid::from_u128(uid)},
                "spec": {"providerRef": {"name": provider}, "instance": {"name": "db"}},
            });
            Arc::new(serde_json::from_value(key).unwrap())
        });
        let provider = ProviderId { namespace: Some("apps".to_owned()), name: "cf".to_owned() };
        let uri = "/apis/servicekeys.dev/v1alpha1/namespaces/apps/servicekeys?&limit=50";
        let client = listing(uri, &json!([object(uid, is_deleted)]));
        assert_eq!(has_deleted_keys(&client, &provider, &known).await.unwrap(), counts);
    }
}
