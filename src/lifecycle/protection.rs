//! Protects a provider, and the login Secrets that it names, from deletion for as long as a ServiceKey needs them to
//! revoke its keys.
//!
//! Deleting a namespace, a chart or an application deletes everything in it at once and in any order. Everything that
//! the revocation of a key requires must outlast the key.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::order::decisions;

decisions! {
    /// A provider, and the login Secrets that it names, outlast the keys that are revoked with them.
    "Protect a provider", ProtectionView => ProtectionStep:

    /// The API server refuses a new finalizer on an object that is being deleted.
    wait_after_deletion,
    /// Only a protected provider protects a Secret, because the provider must still exist to release the Secret.
    protect_provider,
    /// The status names a Secret before the provider protects it, so a release after a crash misses none.
    record_secrets,
    /// The provider needs the login for as long as a ServiceKey needs the provider.
    protect_secret,
    /// The provider no longer names the Secret, or no ServiceKey needs the provider.
    release_unwanted_secret,
    /// A user deleted only the Secret, to create another one under its name.
    release_replaced_secret,
    /// A provider that is gone left its finalizer, and no provider needs it in place of its own.
    remove_orphans,
    /// No ServiceKey needs the provider, and it no longer protects a Secret.
    release_provider,
    /// The provider has released the Secrets that it no longer names.
    forget_released_secrets,
    else
    /// The provider protects everything that it should, and nothing else.
    rest
}

/// How long a login Secret is protected after its deletion if no deletion of keys explains it. A user who deletes a
/// namespace or an application deletes the Secret, the provider and the ServiceKeys within this time.
pub(crate) const LONGEST_UNEXPLAINED_PROTECTION: SignedDuration = SignedDuration::from_secs(60);

/// The state of one provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProtectionView {
    pub deleting: bool,
    /// Whether the provider has the operator's finalizer.
    pub held: bool,
    /// Whether a ServiceKey references it.
    pub used: bool,
    /// Whether its namespace or a ServiceKey that references it is being deleted, or may be.
    pub revoking: bool,
    pub now: Timestamp,
    /// The Secrets that its spec names.
    pub named: BTreeSet<String>,
    /// The Secrets that its status names as protected, or about to be.
    pub recorded: BTreeSet<String>,
    /// The Secrets of `named` and `recorded` that exist.
    pub secrets: BTreeMap<String, ProtectedSecret>,
}

/// The state of one login Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProtectedSecret {
    /// When it was deleted, if a finalizer still keeps it.
    pub deleted_at: Option<Timestamp>,
    /// Whether it has this provider's finalizer.
    pub held: bool,
    /// Whether it has finalizers of providers that are gone.
    pub orphaned: bool,
}

impl ProtectionView {
    /// Whether no ServiceKey needs the provider any more.
    fn ends(&self) -> bool {
        self.deleting && !self.used
    }

    /// The Secrets that the provider has to protect.
    fn wanted(&self) -> BTreeSet<String> {
        if self.ends() { BTreeSet::new() } else { self.named.clone() }
    }

    /// The first of these Secrets that exists and meets the condition.
    fn first(&self, names: BTreeSet<String>, is_meant: impl Fn(ProtectedSecret) -> bool) -> Option<String> {
        let exists = |name: &String| self.secrets.get(name).is_some_and(|secret| is_meant(*secret));
        names.into_iter().find(exists)
    }

    /// Whether a user deleted the Secret to replace it, and it has been protected for long enough.
    fn is_replaced(&self, secret: ProtectedSecret) -> bool {
        let explained = self.deleting || self.revoking;
        let is_due = |at| self.now.duration_since(at) >= LONGEST_UNEXPLAINED_PROTECTION;
        !explained && secret.deleted_at.is_some_and(is_due)
    }

    /// Whether a Secret that this provider can no longer protect is still needed. Finalizers of providers that are gone
    /// protect it as well as its own would.
    fn needs_orphans(&self, secret: ProtectedSecret) -> bool {
        secret.deleted_at.is_some() && !secret.held && !self.is_replaced(secret)
    }
}

/// One step of the protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProtectionStep {
    ProtectProvider,
    /// Record the names of the protected Secrets, before each one is protected, and after one is released.
    Record(BTreeSet<String>),
    ProtectSecret(String),
    ReleaseSecret(String),
    /// Remove the finalizers of providers that are gone from a Secret.
    RemoveOrphans(String),
    /// Release the provider. This is its last step.
    ReleaseProvider,
    /// Everything that should be protected is protected, and nothing else.
    Wait,
}

/// Decides the next step of the protection.
///
/// A provider protects a Secret only if the provider itself is protected and its status names the Secret. So the
/// operator knows which Secrets to release before it releases the provider. An object that is already being deleted
/// can't be protected any more.
///
/// A Secret that is deleted alone is being replaced. The operator releases it after [`LONGEST_UNEXPLAINED_PROTECTION`],
/// because a new one can't be created before.
#[must_use]
pub(crate) fn next_protection_step(view: &ProtectionView) -> ProtectionStep {
    decide(view)
}

fn wait_after_deletion(view: &ProtectionView) -> Option<ProtectionStep> {
    (!view.held && view.deleting).then_some(ProtectionStep::Wait)
}

fn protect_provider(view: &ProtectionView) -> Option<ProtectionStep> {
    (!view.held).then_some(ProtectionStep::ProtectProvider)
}

fn record_secrets(view: &ProtectionView) -> Option<ProtectionStep> {
    let wanted = view.wanted();
    (!wanted.is_subset(&view.recorded)).then(|| ProtectionStep::Record(&wanted | &view.recorded))
}

fn protect_secret(view: &ProtectionView) -> Option<ProtectionStep> {
    let can_be_held = |secret: ProtectedSecret| !secret.held && secret.deleted_at.is_none();
    view.first(view.wanted(), can_be_held).map(ProtectionStep::ProtectSecret)
}

fn release_unwanted_secret(view: &ProtectionView) -> Option<ProtectionStep> {
    view.first(&view.recorded - &view.wanted(), |secret| secret.held).map(ProtectionStep::ReleaseSecret)
}

fn release_replaced_secret(view: &ProtectionView) -> Option<ProtectionStep> {
    let is_due = |secret: ProtectedSecret| secret.held && view.is_replaced(secret);
    view.first(view.wanted(), is_due).map(ProtectionStep::ReleaseSecret)
}

fn remove_orphans(view: &ProtectionView) -> Option<ProtectionStep> {
    let wanted = view.wanted();
    let has_idle_orphans = |(name, secret): &(&String, &ProtectedSecret)| {
        secret.orphaned && !(wanted.contains(*name) && view.needs_orphans(**secret))
    };
    view.secrets.iter().find(has_idle_orphans).map(|(name, _)| ProtectionStep::RemoveOrphans(name.clone()))
}

fn release_provider(view: &ProtectionView) -> Option<ProtectionStep> {
    view.ends().then_some(ProtectionStep::ReleaseProvider)
}

fn forget_released_secrets(view: &ProtectionView) -> Option<ProtectionStep> {
    let wanted = view.wanted();
    (view.recorded != wanted).then_some(ProtectionStep::Record(wanted))
}

fn rest(_: &ProtectionView) -> ProtectionStep {
    ProtectionStep::Wait
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

    use super::*;

    /// More steps than there are objects to protect and to record.
    const PATIENCE: usize = 20;
    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn names() -> impl Strategy<Value = BTreeSet<String>> {
        prop::collection::btree_set("[abc]", 0..3)
    }

    fn ago(seconds: i64) -> Timestamp {
        NOW - SignedDuration::from_secs(seconds)
    }

    fn secret() -> impl Strategy<Value = ProtectedSecret> {
        let age = prop::option::of(prop_oneof![Just(0_i64), Just(59), Just(60), Just(3600)]);
        (age, any::<bool>(), any::<bool>()).prop_map(|(age, held, orphaned)| ProtectedSecret {
            deleted_at: age.map(ago),
            held,
            orphaned,
        })
    }

    prop_compose! {
        /// Any state that a crash between two steps can leave, or that users can create.
        fn view()(
            deleting: bool,
            used: bool,
            revoking: bool,
            held: bool,
            named in names(),
            recorded in names(),
            secrets in prop::collection::btree_map("[abc]", secret(), 0..4),
        ) -> ProtectionView {
            let recorded = if held { recorded } else { BTreeSet::new() };
            let held_secret = |name: &String, secret: ProtectedSecret| ProtectedSecret {
                held: secret.held && recorded.contains(name),
                ..secret
            };
            let secrets = secrets.into_iter().map(|(name, secret)| (name.clone(), held_secret(&name, secret)));
            ProtectionView { deleting, held, used, revoking, now: NOW, secrets: secrets.collect(), named, recorded }
        }
    }

    /// Whether a Secret that the provider names is not being replaced, and may be needed to revoke keys.
    fn is_needed(view: &ProtectionView, name: &String) -> bool {
        let explained = view.deleting || view.revoking;
        let is_replaced = view.secrets[name].deleted_at.is_some_and(|at| at <= ago(60)) && !explained;
        (view.used || !view.deleting) && view.named.contains(name) && !is_replaced
    }

    /// Removes a deleted Secret without finalizers.
    fn collect(view: &mut ProtectionView, name: &String) {
        let ProtectedSecret { deleted_at, held, orphaned } = view.secrets[name];
        if deleted_at.is_some() && !held && !orphaned {
            view.secrets.remove(name);
        }
    }

    /// Carries out a step like the API server.
    fn carry_out(view: &mut ProtectionView, step: &ProtectionStep) {
        match step {
            ProtectionStep::ProtectProvider => {
                assert!(!view.deleting, "the API server refuses new finalizers then");
                view.held = true;
            }
            ProtectionStep::Record(names) => view.recorded.clone_from(names),
            ProtectionStep::ProtectSecret(name) => {
                let secret = view.secrets.get_mut(name).unwrap();
                assert!(secret.deleted_at.is_none(), "the API server refuses new finalizers then");
                assert!(view.held && view.recorded.contains(name), "protected, but not recorded");
                secret.held = true;
            }
            ProtectionStep::ReleaseSecret(name) => {
                assert!(!is_needed(view, name), "still needed");
                view.secrets.get_mut(name).unwrap().held = false;
                collect(view, name);
            }
            ProtectionStep::RemoveOrphans(name) => {
                let secret = view.secrets[name];
                let holds_it = secret.deleted_at.is_some() && !secret.held;
                assert!(!(holds_it && is_needed(view, name)), "no other finalizer protects it");
                view.secrets.get_mut(name).unwrap().orphaned = false;
                collect(view, name);
            }
            ProtectionStep::ReleaseProvider => {
                assert!(view.deleting && !view.used, "still needed");
                assert!(view.secrets.values().all(|secret| !secret.held), "a Secret is never released");
                view.held = false;
            }
            ProtectionStep::Wait => {}
        }
    }

    fn settle(view: &mut ProtectionView) {
        for _ in 0..PATIENCE {
            match next_protection_step(view) {
                ProtectionStep::Wait => break,
                step => carry_out(view, &step),
            }
        }
    }

    /// Decides about some of the views, the same ones in each run.
    pub(in crate::lifecycle) fn wander() {
        let mut runner = TestRunner::deterministic();
        for _ in 0..1_000 {
            settle(&mut view().new_tree(&mut runner).unwrap().current());
        }
        // Random views seldom contain a Secret that a user replaces.
        let replaced = ProtectedSecret { deleted_at: Some(ago(60)), held: true, orphaned: false };
        let names = BTreeSet::from(["a".to_owned()]);
        settle(&mut ProtectionView {
            deleting: false,
            held: true,
            used: true,
            revoking: false,
            now: NOW,
            recorded: names.clone(),
            secrets: names.iter().map(|name| (name.clone(), replaced)).collect(),
            named: names,
        });
    }

    proptest! {
        #[test]
        fn what_is_needed_is_held_and_nothing_else(mut view in view()) {
            settle(&mut view);
            prop_assert_eq!(next_protection_step(&view), ProtectionStep::Wait);
            prop_assert!(!(view.held && view.deleting && !view.used), "protected although no ServiceKey needs it");
            if view.held {
                prop_assert_eq!(&view.recorded, &view.named);
                for (name, secret) in &view.secrets {
                    let needed = view.named.contains(name);
                    let deleted = secret.deleted_at.is_some();
                    prop_assert!(secret.held == needed || deleted && needed, "{} {:?}", name, secret);
                    let held = secret.held || secret.orphaned;
                    prop_assert!(!(held && view.is_replaced(*secret)), "{} can't be replaced", name);
                    let is_all_that_holds_it = deleted && !secret.held && is_needed(&view, name);
                    prop_assert!(!secret.orphaned || is_all_that_holds_it, "{} is never released", name);
                }
            }
        }
    }
}
