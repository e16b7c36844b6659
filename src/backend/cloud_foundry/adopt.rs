//! Taking over keys that somebody made by hand, or for a ServiceKey that is no more.

use reqwest::{Method, StatusCode};

use super::{
    call::Exchange,
    classify::CloudFoundryCall,
    foundry::{CloudFoundry, KEYS},
    marks,
    pending_operations::CreatedKey,
    wire::{BindingState, CredentialBinding},
};
use crate::backend::{
    AdoptionPermit, BackendError, Bound, IssuedKey, KeyFacts, KeyRequest, LostClusters, Restored,
    http::segment,
};
use crate::fair::Lane;

impl CloudFoundry {
    /// Takes the key over that has the name of the requested one, where that may be; nothing where it may not. It is
    /// marked before its credentials are handed on: after a crash in between it is found as one that was made.
    ///
    /// # Errors
    /// Those of the calls.
    pub(super) async fn adopt(
        &self,
        request: &KeyRequest,
        instance: &str,
    ) -> Result<Option<Bound>, BackendError> {
        let Some(adoption) = &request.adoption else { return Ok(None) };
        // One after the other: whoever comes second finds the mark of the first.
        let _turn = self.adopting.acquire(&Lane::current()).await;
        let Some(key) = self.named(request, instance).await? else { return Ok(None) };
        if !self.may_adopt(&key, request, adoption)? {
            return Ok(None);
        }
        let made = CreatedKey::from(key);
        // Read first: what can't be read is left to whoever has it.
        let Some(IssuedKey { facts, credentials }) = self.issued(request, &made).await? else {
            return Err(super::foundry::hidden(&request.name));
        };
        let credentials = credentials.kept(self.http.kept())?;
        let mut exchange = Exchange::for_key(self, CloudFoundryCall::Adopt, request);
        let marks = serde_json::json!({"metadata": marks::new_metadata(request)});
        let path = format!("{KEYS}/{}", segment(&made.guid));
        let response = exchange.send_json(Method::PATCH, &path, &marks).await?;
        if response.status != StatusCode::OK {
            return Err(exchange.refused(&response).await);
        }
        self.confirmed.insert(request, &made.guid);
        let facts = KeyFacts { adopted: Some(request.name.clone()), ..facts };
        Ok(Some(Bound::Issued(IssuedKey { facts, credentials: credentials.take()? })))
    }

    /// Whether the ServiceKey may adopt the key. A mark names the ServiceKey that the key belongs to. That one must no
    /// longer exist, and must have been of the same namespace and cluster, or of a cluster that the provider names. The
    /// operator can't see the ServiceKeys of other clusters, which may have a namespace of the same name.
    fn may_adopt(
        &self,
        key: &CredentialBinding,
        request: &KeyRequest,
        adoption: &AdoptionPermit,
    ) -> Result<bool, BackendError> {
        if key.standing() != BindingState::Made {
            return Ok(false);
        }
        let Some(owner) = marks::owner_of(key) else { return Ok(true) };
        let is_of_this_namespace = marks::namespace_of(key) == Some(&request.owner.namespace);
        Ok(is_of_a_known_cluster(key, request, &self.lost_clusters)
            && is_of_this_namespace
            && match owner.parse() {
                Ok(owner) => !adoption.lives(owner)?,
                Err(_) => true,
            })
    }

    /// Whether the key may be that of a restored ServiceKey, where the request is of one. A former UID alone proves nothing.
    pub(super) fn may_be_inherited(&self, key: &CredentialBinding, request: &KeyRequest) -> bool {
        may_be_inherited(key, request, &self.lost_clusters)
    }

    /// Whether this is the key that is asked for, as far as its mark tells.
    pub(super) fn is_ours(&self, key: &CredentialBinding, request: &KeyRequest) -> bool {
        marks::is_ours(key, request.identity) && self.may_be_inherited(key, request)
    }

    /// Whether the key bears the whole mark of the one that is asked for.
    pub(super) fn bears_mark(&self, key: &CredentialBinding, request: &KeyRequest) -> bool {
        marks::bears(key, request.identity) && self.may_be_inherited(key, request)
    }
}

/// Whether the key was created in this cluster, or in one that the provider says is lost.
fn is_of_a_known_cluster(key: &CredentialBinding, request: &KeyRequest, lost: &LostClusters) -> bool {
    let cluster = marks::cluster_of(key);
    cluster == request.owner.cluster_id.as_deref() || cluster.is_some_and(|cluster| lost.contain(cluster))
}

fn may_be_inherited(key: &CredentialBinding, request: &KeyRequest, lost: &LostClusters) -> bool {
    request.restored.is_none_or(|Restored { login_is_own }| {
        is_of_a_known_cluster(key, request, lost)
            && (login_is_own || marks::is_of_namesake(key, &request.owner))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backend::cloud_foundry::pending_operations::tests::request;

    const SHARED: Option<Restored> = Some(Restored { login_is_own: false });
    const OWN: Option<Restored> = Some(Restored { login_is_own: true });

    #[rstest]
    #[case::not_restored(None, |_: &mut KeyRequest| {}, true)]
    #[case::the_same_name(SHARED, |_: &mut KeyRequest| {}, true)]
    #[case::another_namespace(SHARED, |created: &mut KeyRequest| created.owner.namespace.push('2'), false)]
    #[case::another_name(SHARED, |created: &mut KeyRequest| created.owner.name.push('2'), false)]
    #[case::through_an_own_login(OWN, |created: &mut KeyRequest| created.owner.name.push('2'), true)]
    #[case::another_cluster(OWN, |created: &mut KeyRequest| created.owner.cluster_id = Some("other".into()), false)]
    #[case::a_lost_cluster(OWN, |created: &mut KeyRequest| created.owner.cluster_id = Some("lost".into()), true)]
    #[case::no_cluster(OWN, |created: &mut KeyRequest| created.owner.cluster_id = None, false)]
    fn a_key_is_inherited_only_where_its_mark_shows_more_than_a_uid(
        #[case] restored: Option<Restored>,
        #[case] created: fn(&mut KeyRequest),
        #[case] expected: bool,
    ) {
        let mut request = request(1);
        request.restored = restored;
        let mut former = request.clone();
        created(&mut former);
        let key = serde_json::json!({"guid": "guid", "metadata": marks::new_metadata(&former)});
        let lost = LostClusters::new(vec!["lost".to_owned()]);
        assert_eq!(may_be_inherited(&serde_json::from_value(key).unwrap(), &request, &lost), expected);
    }
}
