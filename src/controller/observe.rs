//! What is observed before a decision. Nothing is changed by it, and hardly anything is asked: the caches know.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use uuid::Uuid;

use super::{
    error::Error,
    finalizer,
    heirs::heir,
    local_state::WrittenSecret,
    provider::Tenant,
    seats::Seat,
    status,
    turn::{SecretLookup, Target, Turn},
    unread,
};
use crate::{
    api::{Adoption, DeletionPolicy, PreviousCredentials, ProviderKind, Reason, RotationStrategy, marks},
    backend::RequestLimits,
    lifecycle::{
        Claim, Desired, Evidence, Flaw, GracePeriod, Inheritance, Observed, PlanIds, PlanView, Problem,
        ProviderView, RotationPolicy, SecretView, Sequence, Wish,
    },
    secret::{self, Entries, Former, Layout, Marks, Ownership},
    wipe::HeldSecret,
};

impl Turn<'_> {
    /// Everything that the next decision may look at.
    pub(super) async fn observe(&mut self) -> Result<Observed, Error> {
        let desired = self.desired().await?;
        let memory = status::read(self.key.status.as_ref());
        let secret = self.secret_view().await?;
        let evidence = Evidence {
            owner: self.owner_of_keys(),
            recorded: &memory,
            run: &self.run,
            admitted: self.is_admitted(),
            marks_keys: self.context.registry.marks_keys(&self.target.provider),
            now: (self.context.clock)(),
        };
        let (secret, admitted, marks_keys) =
            (secret.believed(&evidence), evidence.admitted, evidence.marks_keys);
        Ok(Observed {
            owner: self.owner_of_keys(),
            desired,
            recorded: memory,
            secret,
            provider: self.provider_view()?,
            admitted,
            plan: self.plan_view(),
            noted_first: self.noted_first(),
            marks_keys,
            pause: self.pause(),
            run: self.run.clone(),
            missed: self.missed(),
            grace: self.late_answers(),
            // A key of a former ServiceKey was created by another process.
            all_refused: self.local.stored_finalizer
                && !self.local.may_have_created
                && self.former().is_none(),
            repair_from: self.local.repairs.next(),
            other_writers: self.other_writers.clone(),
            published: status::published_ready(self.key.status.as_ref(), self.key.metadata.generation),
            now: (self.context.clock)(),
        })
    }

    /// A request that was given up may be acted on until the remote side gives it up as well, which is taken to be no
    /// later than we do.
    fn late_answers(&self) -> GracePeriod {
        let backend = self.context.registry.backend(&self.target.provider).and_then(Result::ok);
        let patience = backend.map_or(RequestLimits::DEFAULT_TIMEOUT, |backend| backend.timeout());
        let began = self.context.term.began();
        let unknown_until =
            (!self.local.stored_finalizer).then(|| began.checked_add(patience).unwrap_or(began));
        GracePeriod { patience, unknown_until }
    }

    /// What a broker calls the plan of the instance, as far as that is known without a request.
    pub(super) fn plan_view(&self) -> PlanView {
        let backend = self.context.registry.backend(&self.target.provider).and_then(Result::ok);
        backend.map_or(PlanView::NotNeeded, |backend| backend.plan(&self.instance()))
    }

    /// The ids that the first key is created with, as the ServiceKey notes them until its status knows a key.
    pub(super) fn noted_first(&self) -> Option<PlanIds> {
        if self.key.status.as_ref().is_some_and(|status| status.key.is_some()) {
            return None;
        }
        let noted = self.key.annotations().get(marks::PLAN_IDS_ANNOTATION)?;
        status::plan_ids(&serde_json::from_str(noted).ok()?)
    }

    /// The current key, where a list of all keys did not show it.
    fn missed(&self) -> Option<Sequence> {
        let sequence = Sequence::new(self.key.status.as_ref()?.key.as_ref()?.sequence)?;
        self.context.missing_keys.contains(self.identity(sequence)).then_some(sequence)
    }

    /// Until when the remote side wants to be left alone.
    fn pause(&self) -> Option<Timestamp> {
        let backend = self.context.registry.backend(&self.target.provider)?.ok()?;
        (self.context.clock)().checked_add(backend.paused()?).ok()
    }

    async fn desired(&mut self) -> Result<Desired, Error> {
        let problem = self.problem().await?;
        let key = &self.key;
        let rotation = key.spec.rotation.clone().unwrap_or_default();
        let allowance = self.allowance();
        let abandon_denied = allowance.abandon_denied();
        let abandons = key.annotations().get(marks::ABANDON_ANNOTATION).is_some_and(|value| value == "true");
        Ok(Desired {
            finalizer: finalizer::has(&key.metadata, marks::FINALIZER),
            deleting: key.metadata.deletion_timestamp.is_some(),
            abandon: abandons && abandon_denied.is_none(),
            abandon_denied,
            retain: key.spec.deletion_policy == DeletionPolicy::Retain && allowance.retain_denied().is_none(),
            retains_secret: key.spec.secret.deletion_policy == DeletionPolicy::Retain,
            suspended: key.spec.suspend,
            inputs: self.inputs(),
            rotation: RotationPolicy {
                every: rotation.every.map(crate::api::Duration::get),
                overlap: rotation.overlap(),
                makes_room: rotation.strategy == RotationStrategy::Replace,
            },
            keeps_previous: self.keeps_previous(),
            adopts: key.spec.adoption == Adoption::IfExists,
            problem,
        })
    }

    /// What is wrong with the spec. It is found out once for each generation.
    ///
    /// # Errors
    /// [`Error::Unchecked`] where that can't be told now.
    async fn problem(&mut self) -> Result<Option<Problem>, Error> {
        let generation = self.key.metadata.generation.unwrap_or_default();
        if let Some((checked, problem)) = &self.local.checked_spec
            && *checked == generation
        {
            return Ok(problem.clone());
        }
        if let Some(problem) = unread::excess(&self.key.metadata) {
            self.local.checked_spec = Some((generation, Some(problem.clone())));
            return Ok(Some(problem));
        }
        let layout = self.layout();
        let known = match self.context.options.secrets.check(&layout) {
            Err(refused) => Some(Err(refused)),
            Ok(()) => self.context.templates.known(&self.target.lane, &layout),
        };
        let verdict = match known {
            Some(verdict) => verdict,
            None => {
                let (context, lane) = (self.context, self.target.lane.clone());
                self.idle_during(context.templates.validate(&lane, layout)).await
            }
        };
        let invalid = match verdict {
            Ok(()) => None,
            Err(error) if error.may_pass() => return Err(Error::Unchecked(error)),
            Err(error) => Some(Problem {
                reason: Reason::InvalidSpec,
                message: format!("`spec.secret` can't be fulfilled: {error}"),
            }),
        };
        self.local.checked_spec = Some((generation, invalid.clone()));
        Ok(invalid)
    }

    pub(super) fn keeps_previous(&self) -> bool {
        self.key.spec.secret.previous == PreviousCredentials::Include
    }

    fn provider_view(&self) -> Result<ProviderView, Error> {
        let id = &self.target.provider;
        let labels = self.context.namespaces.labels(&self.target.namespace);
        let tenant = Tenant { namespace: &self.target.namespace, labels: labels.as_ref() };
        let Some(view) = self.context.registry.view(id, &tenant) else {
            return Ok(ProviderView::Unavailable(Problem {
                reason: Reason::ProviderNotFound,
                message: if self.key.spec.provider_ref.kind == ProviderKind::ClusterKeyProvider
                    && self.context.options.namespaces.is_some()
                {
                    format!("{id} can't be used: this operator serves single namespaces; use a KeyProvider")
                } else {
                    format!("{id} does not exist; create it")
                },
            }));
        };
        let former = self.former();
        let obstacle = former.map(|uid| self.obstacle_to_inheritance(&[uid])).transpose()?.flatten();
        match (view, obstacle) {
            // Nothing at all is asked about keys that may be another ServiceKey's.
            (ProviderView::Available, Some(problem)) | (ProviderView::Closed(problem), Some(_)) => {
                return Ok(ProviderView::Unavailable(problem));
            }
            (ProviderView::Available, None) => {}
            // A namespace that is not admitted learns nothing else, and what can't be asked needs no further reason.
            (view, _) => return Ok(view),
        }
        let refusal = self.misplaced_role().or_else(|| self.impossible_adoption());
        let refusal = match refusal.or_else(|| self.not_permitted()) {
            Some(refusal) => Some(refusal),
            None => self.without_a_place()?,
        };
        Ok(refusal.map_or(ProviderView::Available, ProviderView::Closed))
    }

    /// Why the keys of these former ServiceKeys are not those of the one at hand.
    ///
    /// # Errors
    /// [`Error::Outdated`] as long as not all ServiceKeys are known.
    fn obstacle_to_inheritance(&self, uids: &[Uuid]) -> Result<Option<Problem>, Error> {
        let Self { context, target, key, .. } = self;
        let registry = &context.registry;
        let Some(heir) = heir(key) else { return Err(Error::Malformed("metadata.creationTimestamp")) };
        let mut is_former_alive = false;
        for uid in uids {
            // One that is gone may still have its keys revoked.
            let is_leaving = context.departures.is_leaving(*uid);
            is_former_alive |= is_leaving || registry.has_service_key(*uid).ok_or(Error::Outdated)?;
        }
        let denied = self.allowance().restore_denied();
        let backend = registry.backend(&target.provider).and_then(Result::ok);
        let inheritance = Inheritance {
            namespace: &target.namespace,
            heir,
            is_settled: self.former().is_some_and(|uid| uids.contains(&uid)),
            is_former_alive,
            other_heir: uids
                .iter()
                .filter_map(|uid| registry.first_heir_except(*uid, &target.provider, heir.uid))
                .min(),
            is_proved_by_marks: backend.is_some_and(|backend| backend.marks_show_names()),
            denied: denied.as_deref(),
        };
        Ok(inheritance.obstacle())
    }

    /// What the ServiceKey asks for, and the provider does not permit its namespace.
    fn not_permitted(&self) -> Option<Problem> {
        let status = self.key.status.as_ref();
        self.allowance().refusal(&Wish {
            namespace: &self.target.namespace,
            spec: &self.key.spec,
            has_key: status.is_some_and(|status| status.key.is_some()),
        })
    }

    /// Why there is no place for the ServiceKey among those of its namespace. One that is being deleted needs none.
    ///
    /// # Errors
    /// [`Error::Outdated`] where its own event was not taken in yet.
    fn without_a_place(&self) -> Result<Option<Problem>, Error> {
        let (allowance, target) = (self.allowance(), &self.target);
        let Some(max) = allowance.max_keys().filter(|_| self.key.metadata.deletion_timestamp.is_none())
        else {
            return Ok(None);
        };
        match self.context.seats.take(&target.provider, &target.namespace, target.uid, max) {
            Seat::Taken => Ok(None),
            Seat::Refused => Ok(allowance.no_place(&target.namespace)),
            Seat::Unknown => Err(Error::Outdated),
        }
    }

    /// Whether the provider admits the ServiceKey's namespace.
    fn is_admitted(&self) -> bool {
        let Target { provider, namespace, .. } = &self.target;
        let labels = self.context.namespaces.labels(namespace);
        self.context.registry.admits(provider, &Tenant { namespace, labels: labels.as_ref() })
    }

    /// A role that is asked of a provider whose keys have none.
    fn misplaced_role(&self) -> Option<Problem> {
        self.key.spec.ibm_cloud.as_ref()?;
        let id = &self.target.provider;
        let backend = self.context.registry.backend(id)?.ok()?;
        (!backend.has_roles()).then(|| Problem {
            reason: Reason::InvalidSpec,
            message: format!(
                "`spec.ibmCloud` is for keys of IBM Cloud, and {id} makes others: create the ServiceKey again without it"
            ),
        })
    }

    /// An adoption that is asked of a provider whose keys can't be taken over.
    fn impossible_adoption(&self) -> Option<Problem> {
        let id = &self.target.provider;
        let backend = self.context.registry.backend(id)?.ok()?;
        let wanted = self.key.spec.adoption == Adoption::IfExists;
        (wanted && !backend.adopts_keys()).then(|| Problem {
            reason: Reason::InvalidSpec,
            message: format!(
                "`spec.adoption: IfExists` is for keys of a Cloud Foundry or of IBM Cloud, and {id} makes others: take it \
                 out"
            ),
        })
    }

    /// The Secret, from the newest that is known of it.
    async fn secret_view(&mut self) -> Result<SecretView<Claim>, Error> {
        let target = &self.target;
        if let Some(holder) = self.rival() {
            return Ok(SecretView::Foreign { holder });
        }
        match &self.secret_lookup {
            Some(SecretLookup::Absent) => return Ok(SecretView::Absent),
            Some(SecretLookup::There(meta)) => return self.view_of(&meta.clone(), false).await,
            None if self.distrusts_cache => return Ok(SecretView::Unknown),
            None => {}
        }
        match self.context.secrets.get(&target.namespace, &target.secret) {
            None => Ok(SecretView::Unknown),
            Some(known) => self.view_of(&known.meta, known.verified).await,
        }
    }

    /// Another ServiceKey that claimed the Secret's name before us, and may be making a key for it.
    fn rival(&self) -> Option<String> {
        if self.key.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let target = &self.target;
        let claim =
            self.context.reservations.reserve(&target.namespace, &target.secret, target.uid, &target.name);
        claim.err().map(|rival| format!("ServiceKey `{rival}`"))
    }

    async fn view_of(&mut self, meta: &ObjectMeta, verified: bool) -> Result<SecretView<Claim>, Error> {
        match secret::ownership(meta, &self.target.owner_reference) {
            Ownership::Foreign { holder } => return Ok(SecretView::Foreign { holder }),
            Ownership::Former(Former { owner, created_for }) if !self.goes_on_with(created_for) => {
                let obstacle = self.obstacle_to_inheritance(&[owner, created_for])?;
                let sequence = secret::read(meta).map(|marks| marks.key.sequence);
                return Ok(SecretView::Former { uid: created_for, sequence, obstacle });
            }
            Ownership::Former(_) | Ownership::Ours => {}
        }
        let (layout, marks) = (self.layout(), secret::read(meta));
        self.other_writers = None;
        let is_right = |marks: &&Marks<Claim>| {
            let complete = secret::intact(meta, &self.target.owner_reference, &layout);
            // Admission may have changed what we wrote, which was accepted then.
            let accepted = self.is_own_version(meta);
            marks.imprint.layout == layout.digest() && (accepted || complete && verified)
        };
        if let Some(marks) = marks.as_ref().filter(is_right) {
            self.note_intact(meta, marks.clone());
            return Ok(SecretView::Intact { key: marks.key.clone(), previous: marks.previous, flaw: None });
        }
        let secret = self.read_secret().await?.filter(|secret| secret.metadata.uid == meta.uid);
        self.other_writers = secret.as_ref().and_then(|secret| secret::other_writers(secret, &layout));
        let Some((entries, held)) = secret.as_ref().and_then(|secret| self.held(secret)) else {
            let previous = marks.as_ref().and_then(|marks| marks.previous);
            return Ok(SecretView::Damaged { key: marks.map(|marks| marks.key), previous });
        };
        let flaw = secret.and_then(|secret| self.flaw(&secret, (&entries, &held), &layout));
        Ok(SecretView::Intact { key: held.key, previous: held.previous, flaw })
    }

    /// The entries that were written and are still there, with the marks that they were written with: those that this
    /// process knows, or else those on the Secret, which another writer may have changed.
    pub(super) fn held(&self, secret: &Secret) -> Option<(Entries, Marks<Claim>)> {
        let known = self.local.written.as_ref().map(|written| written.marks.clone());
        let found = Entries::from_secret(secret);
        known.into_iter().chain(secret::read(&secret.metadata)).find_map(|marks| {
            let entries = marks.imprint.untouched(&found, &self.owner_of_keys())?;
            Some((entries, marks))
        })
    }

    /// What is wrong with a Secret that holds these entries of ours.
    fn flaw(
        &mut self,
        secret: &Secret,
        (entries, held): (&Entries, &Marks<Claim>),
        layout: &Layout,
    ) -> Option<Flaw> {
        let Marks { imprint, .. } = held;
        let is_as_marked = secret::read(&secret.metadata).as_ref() == Some(held);
        let is_complete = secret::intact(&secret.metadata, &self.target.owner_reference, layout);
        let is_exact = secret.data.as_ref().map_or(0, BTreeMap::len) == entries.names().count();
        let is_wanted = imprint.layout == layout.digest();
        if is_as_marked && is_complete && is_exact && is_wanted {
            self.context.secrets.remember(&secret.metadata, true);
            self.note_intact(&secret.metadata, held.clone());
            None
        } else if is_wanted || imprint.rendering.as_ref() == Some(&layout.rendering()) {
            Some(Flaw::Edited)
        } else {
            Some(Flaw::Outdated)
        }
    }

    /// Remembers a Secret that is right.
    pub(super) fn note_intact(&mut self, meta: &ObjectMeta, marks: Marks<Claim>) {
        self.local.written = Some(WrittenSecret { version: meta.resource_version.clone(), marks });
    }

    /// Whether this very version is what we wrote, by the status or by what this process knows.
    fn is_own_version(&self, meta: &ObjectMeta) -> bool {
        let written = self.local.written.as_ref();
        let is_known = written.is_some_and(|written| written.version == meta.resource_version);
        is_known && meta.resource_version.is_some() || self.as_last_written(meta)
    }

    /// Whether the status says that this very version is what we wrote.
    fn as_last_written(&self, meta: &ObjectMeta) -> bool {
        let written = self.key.status.as_ref().and_then(|status| status.secret.as_ref());
        written.is_some_and(|secret| {
            secret.name == self.target.secret
                && Some(&secret.resource_version) == meta.resource_version.as_ref()
        })
    }

    /// The Secret as a whole, which hardly anything needs.
    pub(super) async fn read_secret(&self) -> Result<Option<HeldSecret>, Error> {
        self.secret_reader().read("read the Secret", &self.target.secret).await
    }
}
