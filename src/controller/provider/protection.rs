//! Carries out the decisions about the finalizers of a provider and its login Secrets.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::Value;

use super::{Provider, load::AuthSecrets, orphans};
use crate::{
    api::{ProviderStatus, marks},
    controller::{
        as_field_manager,
        error::{Error, bounded},
        finalizer,
    },
    lifecycle::{
        LONGEST_UNEXPLAINED_PROTECTION, ProtectedSecret, ProtectionStep, ProtectionView, next_protection_step,
    },
};

/// Limit of steps in one reconcile. A provider names at most a handful of Secrets.
const MAX_STEPS: usize = 64;

/// A provider with the Secrets that the operator protects for it.
pub(super) struct ProtectedProvider<K> {
    client: Client,
    /// The provider, as the operator's last write returned it.
    pub provider: K,
    /// The Secrets that the spec names.
    pub logins: AuthSecrets,
    /// The Secrets that the spec named before, and that still have the finalizer.
    former: BTreeMap<String, ObjectMeta>,
    finalizer: String,
    /// The finalizers of other providers on these Secrets whose provider is gone.
    orphans: BTreeSet<String>,
}

/// Facts about a provider's users, for the decisions.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProviderUsage {
    /// Whether a ServiceKey names the provider.
    pub used: bool,
    /// Whether its namespace or a ServiceKey that names it is being deleted, or may be.
    pub revoking: bool,
    pub now: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtectionOutcome {
    /// The provider exists, and is served.
    Served,
    /// The operator removed its finalizer, and the provider is gone.
    Released,
}

impl<K: Provider> ProtectedProvider<K> {
    /// Reads all Secrets that the provider names or still protects.
    ///
    /// # Errors
    /// When the Kubernetes API fails. A missing Secret is not an error.
    pub(super) async fn read(client: Client, provider: K, namespace: &str) -> Result<Self, Error> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let logins = AuthSecrets::read(secrets.clone(), namespace, provider.provider()).await?;
        let named = provider.provider().secret_names();
        let mut former = BTreeMap::new();
        for name in recorded(&provider).iter().filter(|name| !named.contains(name.as_str())) {
            let found = bounded("read a former login Secret", secrets.get_metadata_opt(name)).await?;
            former.extend(found.map(|secret| (name.clone(), secret.metadata)));
        }
        let uid = provider.meta().uid.as_deref().unwrap_or_default();
        let finalizer = format!("{}{uid}", marks::LOGIN_FINALIZER_PREFIX);
        Ok(Self { client, provider, logins, former, finalizer, orphans: BTreeSet::new() })
    }

    /// The finalizers of other providers on these Secrets.
    pub(super) fn finalizers_of_others(&self) -> BTreeSet<String> {
        let others = self.metadata().flat_map(|(_, meta)| orphans::login_finalizers(meta));
        others.filter(|finalizer| *finalizer != self.finalizer).map(str::to_owned).collect()
    }

    /// Sets which of these finalizers are of providers that are gone.
    pub(super) fn note_orphans(&mut self, orphans: BTreeSet<String>) {
        self.orphans = orphans;
    }

    fn metadata(&self) -> impl Iterator<Item = (&str, &ObjectMeta)> {
        self.logins.metadata().chain(self.former.iter().map(|(name, meta)| (name.as_str(), meta)))
    }

    /// Whether a Secret was deleted so long ago that a finalizer keeps it only if another deletion explains its own.
    pub(super) fn has_overdue_secret(&self, now: Timestamp) -> bool {
        self.metadata().any(|(_, meta)| {
            let deleted_at = meta.deletion_timestamp.as_ref();
            orphans::login_finalizers(meta).next().is_some()
                && deleted_at.is_some_and(|at| now.duration_since(at.0) >= LONGEST_UNEXPLAINED_PROTECTION)
        })
    }

    /// Adds the finalizers that are needed, and removes the others.
    ///
    /// # Errors
    /// When the Kubernetes API fails, or an object changed in the meantime. The caller starts again then.
    pub(super) async fn settle(&mut self, usage: ProviderUsage) -> Result<ProtectionOutcome, Error> {
        for _ in 0..MAX_STEPS {
            match next_protection_step(&self.view(usage)) {
                ProtectionStep::ProtectProvider => self.protect_provider().await?,
                ProtectionStep::Record(names) => self.record(names).await?,
                ProtectionStep::ProtectSecret(name) => self.protect_secret(&name).await?,
                ProtectionStep::ReleaseSecret(name) => self.release_secret(&name).await?,
                ProtectionStep::RemoveOrphans(name) => self.remove_orphans(&name).await?,
                ProtectionStep::ReleaseProvider => {
                    self.release_provider().await?;
                    return Ok(ProtectionOutcome::Released);
                }
                ProtectionStep::Wait => return Ok(ProtectionOutcome::Served),
            }
        }
        Err(Error::TooManySteps(MAX_STEPS))
    }

    fn view(&self, ProviderUsage { used, revoking, now }: ProviderUsage) -> ProtectionView {
        let meta = self.provider.meta();
        let secret = |meta: &ObjectMeta| ProtectedSecret {
            deleted_at: meta.deletion_timestamp.as_ref().map(|time| time.0),
            held: finalizer::has(meta, &self.finalizer),
            orphaned: orphans::login_finalizers(meta).any(|finalizer| self.orphans.contains(finalizer)),
        };
        ProtectionView {
            deleting: meta.deletion_timestamp.is_some(),
            held: finalizer::has(meta, marks::PROVIDER_FINALIZER),
            used,
            revoking,
            now,
            named: self.protected(),
            recorded: recorded(&self.provider),
            secrets: self.metadata().map(|(name, meta)| (name.to_owned(), secret(meta))).collect(),
        }
    }

    /// The Secrets to protect: those that the spec names, unless the user turned the protection off.
    fn protected(&self) -> BTreeSet<String> {
        let spec = self.provider.provider();
        if !spec.protect_secrets {
            return BTreeSet::new();
        }
        spec.secret_names().into_iter().map(str::to_owned).collect()
    }

    async fn protect_provider(&mut self) -> Result<(), Error> {
        let write = finalizer::add(self.provider.meta(), marks::PROVIDER_FINALIZER);
        self.patch_provider("add the finalizer to the provider", write).await
    }

    async fn release_provider(&mut self) -> Result<(), Error> {
        let write = finalizer::remove(self.provider.meta(), marks::PROVIDER_FINALIZER);
        self.patch_provider("remove the finalizer from the provider", write).await
    }

    async fn patch_provider(
        &mut self,
        attempt: &'static str,
        (parameters, patch): (PatchParams, Patch<Value>),
    ) -> Result<(), Error> {
        let (api, name) = (self.provider.api(self.client.clone()), self.provider.name_any());
        let write = api.patch(&name, &parameters, &patch);
        self.provider = bounded(attempt, write).await.map_err(Error::outdated)?;
        Ok(())
    }

    async fn record(&mut self, names: BTreeSet<String>) -> Result<(), Error> {
        let status = self.provider.status().cloned().unwrap_or_default();
        let object = self.provider.with_status(ProviderStatus { protected_secrets: names, ..status });
        let (api, name) = (self.provider.api(self.client.clone()), self.provider.name_any());
        let parameters = as_field_manager();
        let write = api.replace_status(&name, &parameters, &object);
        self.provider = bounded("write a provider's status", write).await.map_err(Error::outdated)?;
        Ok(())
    }

    async fn protect_secret(&mut self, name: &str) -> Result<(), Error> {
        let Some(secret) = self.logins.get(name) else { return Ok(()) };
        let (parameters, patch) = finalizer::add(&secret.metadata, &self.finalizer);
        let api = self.logins.api();
        let write = api.patch(name, &parameters, &patch);
        let held = bounded("add the finalizer to a login Secret", write).await.map_err(Error::outdated)?;
        self.logins.set(name, Some(held));
        Ok(())
    }

    async fn release_secret(&mut self, name: &str) -> Result<(), Error> {
        let finalizer = self.finalizer.clone();
        self.remove_finalizers(name, |there| there == finalizer).await
    }

    async fn remove_orphans(&mut self, name: &str) -> Result<(), Error> {
        tracing::info!(secret = name, "removing the finalizers of providers that no longer exist");
        let orphans = self.orphans.clone();
        self.remove_finalizers(name, |there| orphans.contains(there)).await
    }

    async fn remove_finalizers(&mut self, name: &str, leaves: impl Fn(&str) -> bool) -> Result<(), Error> {
        let named = self.logins.get(name).map(|secret| secret.metadata.clone());
        let Some(meta) = named.or_else(|| self.former.get(name).cloned()) else { return Ok(()) };
        let (parameters, patch) = finalizer::remove_all(&meta, leaves);
        let api = self.logins.api();
        let write = api.patch_metadata(name, &parameters, &patch);
        let released =
            bounded("remove the finalizer from a login Secret", write).await.map_err(Error::outdated)?;
        let meta = released.metadata;
        let named = self.provider.provider().secret_names().contains(name);
        let is_gone = meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().next().is_none();
        let login = self.logins.get(name).cloned().filter(|_| named && !is_gone);
        self.logins.set(name, login.map(|login| Secret { metadata: meta.clone(), ..login }));
        self.former.insert(name.to_owned(), meta);
        Ok(())
    }
}

fn recorded<K: Provider>(provider: &K) -> BTreeSet<String> {
    provider.status().map(|status| status.protected_secrets.clone()).unwrap_or_default()
}
