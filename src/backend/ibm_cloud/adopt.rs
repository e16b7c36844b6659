//! Adoption of keys that a user created by hand, or that belonged to a ServiceKey which no longer exists.

use reqwest::{Method, StatusCode};

use super::{
    classify::IbmCloudCall,
    client::{IbmCloud, KeyLookup, Unseen, path},
    name::Mark,
    wire::{INSTANCES, RenameKey, ResourceInstance, ResourceKey},
};
use crate::backend::{
    AdoptionPermit, BackendError, CompleteList, ErrorClass, IssuedKey, KeyFacts, KeyRequest, LostClusters,
    bounded::{shown_name, shown_names},
    http::segment,
    pages::Lists,
};
use crate::fair::Lane;

/// The holder of a key, according to the name of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyHolder {
    /// No ServiceKey that exists.
    Free,
    /// A ServiceKey that may exist, in this or another cluster.
    OtherServiceKey,
    /// The user does not mean this key.
    NoMatch,
}

impl IbmCloud {
    /// Adopts the key that the user means, or returns `None` if there is no such key. The operator renames the key
    /// before it returns the credentials. After a crash in between, it finds the key as one that it created.
    ///
    /// # Errors
    /// - [`ErrorClass::Taken`]: another ServiceKey has the key, several keys match, or no login can read its
    ///   credentials.
    /// - [`ErrorClass::Redacted`]: the credentials are not shown to this login.
    /// - Failures of the calls.
    pub(super) async fn adopt(
        &self,
        request: &KeyRequest,
        instance: &ResourceInstance,
    ) -> Result<Option<IssuedKey>, BackendError> {
        let Some(adoption) = &request.adoption else { return Ok(None) };
        let Some(key) = self.find_candidate(request, instance, adoption).await? else { return Ok(None) };
        // Only one adoption at a time. The second caller then sees the new name.
        let _turn = self.adopting.acquire(&Lane::current()).await;
        // The operator reads the credentials before it renames the key, so a key that it can't read stays unchanged.
        let IssuedKey { facts, credentials } = self.readable(request, &key).await?;
        let credentials = credentials.kept(self.http.kept())?;
        self.give_our_name(request, &key).await?;
        let facts = KeyFacts { name: Some(request.name.clone()), adopted: Some(key.name), ..facts };
        Ok(Some(IssuedKey { facts, credentials: credentials.take()? }))
    }

    /// The one key of the instance that the user means and that the ServiceKey may adopt.
    async fn find_candidate(
        &self,
        request: &KeyRequest,
        instance: &ResourceInstance,
        adoption: &AdoptionPermit,
    ) -> Result<Option<ResourceKey>, BackendError> {
        let keys = format!("{INSTANCES}/{}/resource_keys", segment(&instance.guid));
        let may_be_meant = |key: &ResourceKey| {
            !key.is_removed() && !matches!(self.holder(&key.name, request, adoption), Ok(KeyHolder::NoMatch))
        };
        let keep = |key| Some(key).filter(may_be_meant);
        let mut exchange = self.api().for_key(IbmCloudCall::KeysOfInstance, request);
        let CompleteList { items: mut found, held: _held } = exchange.list(&keys, &[], keep).await?;
        found.sort_by(|one, other| one.guid.cmp(&other.guid));
        let (mut free, mut held) = (Vec::new(), Vec::new());
        for key in found {
            match self.holder(&key.name, request, adoption)? {
                KeyHolder::Free => free.push(key),
                KeyHolder::OtherServiceKey => held.push(key),
                KeyHolder::NoMatch => {}
            }
        }
        match (free.len(), held.first()) {
            (0, None) => Ok(None),
            (0, Some(_)) => Err(held_by_another(adoption)),
            (1, _) => Ok(free.pop()),
            (_, _) => Err(several(&free)),
        }
    }

    /// The key with its credentials, if they are shown and the key still has its name.
    async fn readable(&self, request: &KeyRequest, key: &ResourceKey) -> Result<IssuedKey, BackendError> {
        match self.look(request, &key.guid).await?.sight {
            KeyLookup::Shown(issued) if issued.facts.name.as_ref() == Some(&key.name) => Ok(*issued),
            KeyLookup::Shown(_) | KeyLookup::Removed | KeyLookup::Absent => Err(went_away(&key.name)),
            KeyLookup::HiddenReason(Unseen::ShownOnce) => Err(not_adopted(
                ErrorClass::Taken,
                &key.name,
                "its credentials were shown only at its creation; delete it there if it is unused",
            )),
            KeyLookup::HiddenReason(unseen) => {
                Err(not_adopted(ErrorClass::Redacted, &key.name, unseen.advice()))
            }
        }
    }

    async fn give_our_name(&self, request: &KeyRequest, key: &ResourceKey) -> Result<(), BackendError> {
        let mut exchange = self.api().for_key(IbmCloudCall::Adopt, request);
        let name = RenameKey { name: &request.name };
        let attempt = async {
            let response = exchange.send_json(Method::PATCH, &path(&key.guid), &name).await?;
            match response.status {
                StatusCode::OK => Ok(()),
                StatusCode::NOT_FOUND | StatusCode::GONE => Err(went_away(&key.name)),
                _ => Err(exchange.refused(&response).await),
            }
        };
        self.attempts.make(request, attempt).await?;
        self.confirmed.insert(request, &key.guid);
        Ok(())
    }

    fn holder(
        &self,
        name: &str,
        request: &KeyRequest,
        adoption: &AdoptionPermit,
    ) -> Result<KeyHolder, BackendError> {
        holder(name, request, adoption, &self.lost_clusters)
    }
}

/// The holder of the key with this name, if the ServiceKey may mean that key.
///
/// A key with a mark may be adopted only if its ServiceKey no longer exists. That ServiceKey must have been in this
/// cluster, or in a lost cluster that the provider names. The name of a key does not contain the namespace. So only a
/// ServiceKey whose login belongs to its own namespace may adopt such a key. Otherwise a tenant could get another
/// tenant's key by its name.
fn holder(
    name: &str,
    request: &KeyRequest,
    adoption: &AdoptionPermit,
    lost_clusters: &LostClusters,
) -> Result<KeyHolder, BackendError> {
    let Some(ours) = Mark::read(&request.name) else { return Ok(KeyHolder::NoMatch) };
    let cluster_id = request.owner.cluster_id.as_deref();
    let is_named = name == adoption.name;
    Ok(match Mark::read(name) {
        None if is_named || name == ours.start => KeyHolder::Free,
        Some(mark) if mark.owner != ours.owner && (is_named || mark.start == ours.start) => {
            let is_of_a_known_cluster = mark.may_be_adopted_in(cluster_id, lost_clusters);
            if adoption.login_is_own && is_of_a_known_cluster && !adoption.lives(mark.owner)? {
                KeyHolder::Free
            } else {
                KeyHolder::OtherServiceKey
            }
        }
        _ => KeyHolder::NoMatch,
    })
}

fn failed(class: ErrorClass, what: &str) -> BackendError {
    BackendError::new(class, format!("adoption failed: {what}"))
}

fn went_away(name: &str) -> BackendError {
    let what = format!("the key {} was deleted or renamed meanwhile", shown_name(name));
    failed(ErrorClass::Transient, &what)
}

fn not_adopted(class: ErrorClass, name: &str, why: &str) -> BackendError {
    let name = shown_name(name);
    failed(class, &format!("the key {name} is not adopted: {why}; {INSTEAD}"))
}

const INSTEAD: &str = "to create a new key instead, set `adoption: Never`";

/// The message does not contain the name of that key, which could reveal another namespace.
fn held_by_another(adoption: &AdoptionPermit) -> BackendError {
    let wanted = &adoption.name;
    let what = format!(
        "the key `{wanted}` of the instance is not adopted: it bears the mark of another ServiceKey, here or in \
         another cluster; if that ServiceKey no longer exists, rename the key to `{wanted}` there, or, if its cluster \
         is lost, add the cluster's id to `adoptFromClusters` of a KeyProvider; {INSTEAD}"
    );
    failed(ErrorClass::Taken, &what)
}

fn several(found: &[ResourceKey]) -> BackendError {
    let named = shown_names(found.iter().map(|key| format!("{} ({})", shown_name(&key.name), key.guid)));
    let what = format!(
        "{} keys of the instance match, and none of them is adopted: {}; delete or rename all but one of them there; \
         {INSTEAD}",
        found.len(),
        named.join(", ")
    );
    failed(ErrorClass::Taken, &what)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::backend::ibm_cloud::tests::{US, request};
    use KeyHolder::{Free, NoMatch, OtherServiceKey};

    const GONE: &str = "6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a02";
    const LIVING: &str = "6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a03";

    const CLUSTER: &str = "5e6f7a8b-3f43-4d0c-9d5e-5f3f0c5f8a01";
    const LOST: &str = "1a2b3c4d-3f43-4d0c-9d5e-5f3f0c5f8a01";

    /// Each key has a name of the greatest permitted length.
    #[test]
    fn of_many_keys_ten_are_named() {
        let key = |number: usize| -> ResourceKey {
            serde_json::from_value(json!({"guid": number.to_string(), "name": "n".repeat(1024)})).unwrap()
        };
        let found: Vec<_> = (0..100_000).map(key).collect();
        let message = several(&found).message;
        assert!(message.starts_with("adoption failed: 100000 keys of the instance match"), "{message}");
        assert!(message.contains("…` (9), …; delete or rename all but one"), "{message}");
        assert!(message.len() < 2000, "{message}");
    }

    fn lost_cluster() -> LostClusters {
        LostClusters::new(vec![LOST.to_owned()])
    }

    #[rstest]
    //                                                                own login, shared login
    #[case::by_hand("a/b",                                                      [Free,   Free])]
    #[case::by_hand_as_far_as_names_go("a-b",                                   [Free,   Free])]
    #[case::by_hand_and_called_otherwise("a-b-c",                               [NoMatch, NoMatch])]
    #[case::of_a_gone_one(&format!("a-b-sk5e6f7a8b-{GONE}-7"),                  [Free,   OtherServiceKey])]
    #[case::of_a_cluster_that_is_not_told(&format!("a-b-sk-{GONE}-7"),          [OtherServiceKey,  OtherServiceKey])]
    #[case::of_a_lost_cluster(&format!("a-b-sk1a2b3c4d-{GONE}-1"),              [Free,   OtherServiceKey])]
    #[case::of_another_cluster(&format!("a-b-sk99999999-{GONE}-1"),             [OtherServiceKey,  OtherServiceKey])]
    #[case::of_a_living_one(&format!("a-b-sk5e6f7a8b-{LIVING}-1"),              [OtherServiceKey,  OtherServiceKey])]
    #[case::of_one_called_otherwise(&format!("c-sk5e6f7a8b-{GONE}-1"),          [NoMatch, NoMatch])]
    #[case::our_own_later_one(&format!("a-b-sk5e6f7a8b-{US}-2"),                [NoMatch, NoMatch])]
    #[rustfmt::skip]
    fn a_name_tells_who_has_a_key(#[case] name: &str, #[case] expected: [KeyHolder; 2]) {
        let lives = |owner| Some(Uuid::parse_str(LIVING) == Ok(owner));
        let request = request(&format!("a-b-sk5e6f7a8b-{US}-1"), Some(CLUSTER));
        for (login_is_own, expected) in [true, false].into_iter().zip(expected) {
            let adoption = AdoptionPermit::new("a/b".to_owned(), login_is_own, lives);
            let found = holder(name, &request, &adoption, &lost_cluster()).unwrap();
            assert_eq!(found, expected, "own login: {login_is_own}");
        }
    }

    /// An operator without a cluster id writes marks without one, and adopts only keys with such marks.
    #[rstest]
    #[case::without_a_cluster("", Free)]
    #[case::of_another_cluster("99999999", OtherServiceKey)]
    #[case::of_a_lost_cluster("1a2b3c4d", Free)]
    fn who_does_not_know_its_cluster_takes_no_other_for_its_own(
        #[case] cluster: &str,
        #[case] expected: KeyHolder,
    ) {
        let adoption = AdoptionPermit::new("a".to_owned(), true, |_| Some(false));
        let request = request(&format!("a-sk-{US}-1"), None);
        let name = format!("a-sk{cluster}-{GONE}-1");
        assert_eq!(holder(&name, &request, &adoption, &lost_cluster()).unwrap(), expected);
    }

    /// The user named the key with its complete name, mark included.
    #[test]
    fn a_key_may_be_named_with_its_mark() {
        let name = format!("c-sk-{GONE}-1");
        let adoption = AdoptionPermit::new(name.clone(), true, |_| Some(false));
        let request = request(&format!("{name}-sk-{US}-1"), None);
        assert_eq!(holder(&name, &request, &adoption, &LostClusters::default()).unwrap(), Free);
    }

    #[test]
    fn nobody_is_taken_to_be_gone_before_all_are_known() {
        let adoption = AdoptionPermit::new("a".to_owned(), true, |_| None);
        let request = request(&format!("a-sk-{US}-1"), None);
        let refused = holder(&format!("a-sk-{GONE}-1"), &request, &adoption, &LostClusters::default());
        assert_eq!(refused.unwrap_err().class, ErrorClass::Transient);
    }
}
