//! Whether a provider, and the login Secrets that it names, are held back from deletion: for as long as a
//! ServiceKey needs them to have its keys revoked.
//!
//! Deleting a namespace, a chart or an application deletes everything in it at once and in any order. What the
//! revocation of a key needs must outlast the key.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

/// How long a login Secret is held after its deletion where no deletion of keys explains it. Whoever deletes a namespace or
/// an application deletes the Secret, the provider and the ServiceKeys within this time.
pub const LONGEST_UNEXPLAINED_HOLD: SignedDuration = SignedDuration::from_secs(60);

/// What is known of one provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProviderInUse {
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is held.
    pub held: bool,
    /// Whether a ServiceKey names it.
    pub used: bool,
    /// Whether its namespace or a ServiceKey that names it is being deleted, or may be.
    pub revoking: bool,
    /// The present time.
    pub now: Timestamp,
    /// The Secrets that its spec names.
    pub named: BTreeSet<String>,
    /// The Secrets that its status says to be held, or about to be.
    pub recorded: BTreeSet<String>,
    /// All of both that exist.
    pub secrets: BTreeMap<String, SecretInUse>,
}

/// What is known of one login Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SecretInUse {
    /// When it was deleted, where something holds it back.
    pub deleted_at: Option<Timestamp>,
    /// Whether this provider holds it.
    pub held: bool,
}

impl ProviderInUse {
    /// Whether a Secret was deleted to be replaced by another one, and has been held for long enough.
    fn is_replaced(&self, secret: SecretInUse) -> bool {
        let explained = self.deleting || self.revoking;
        let is_due = |at| self.now.duration_since(at) >= LONGEST_UNEXPLAINED_HOLD;
        secret.held && !explained && secret.deleted_at.is_some_and(is_due)
    }
}

/// One thing to do about what is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldStep {
    /// Hold the provider.
    HoldProvider,
    /// Write down the names of the Secrets that are held, before one is, and after one is no longer.
    Record(BTreeSet<String>),
    /// Hold a Secret.
    HoldSecret(String),
    /// Let go of a Secret.
    ReleaseSecret(String),
    /// Let go of the provider, the last step of its life.
    ReleaseProvider,
    /// Everything is held that should be, and nothing else.
    Rest,
}

/// Decides what to do next about what is held.
///
/// A Secret is held only by a provider that is held itself and whose status says so: whoever lets go of the one
/// knows what else there is to let go of. Nothing that is already being deleted can be held any more.
///
/// A Secret that is deleted by itself is being replaced: it is released after [`LONGEST_UNEXPLAINED_HOLD`], because a new
/// one can't be created before.
#[must_use]
pub fn hold(view: &ProviderInUse) -> HoldStep {
    let ends = view.deleting && !view.used;
    if !view.held {
        return if view.deleting { HoldStep::Rest } else { HoldStep::HoldProvider };
    }
    let wanted = if ends { BTreeSet::new() } else { view.named.clone() };
    if !wanted.is_subset(&view.recorded) {
        return HoldStep::Record(&wanted | &view.recorded);
    }
    let secret = |name: &&String| view.secrets.get(*name).copied();
    let to_hold =
        |name: &&String| secret(name).is_some_and(|secret| !secret.held && secret.deleted_at.is_none());
    if let Some(name) = wanted.iter().find(to_hold) {
        return HoldStep::HoldSecret(name.clone());
    }
    let to_release = |name: &&String| secret(name).is_some_and(|secret| secret.held);
    if let Some(name) = view.recorded.difference(&wanted).find(to_release) {
        return HoldStep::ReleaseSecret(name.clone());
    }
    let is_due = |name: &&String| secret(name).is_some_and(|secret| view.is_replaced(secret));
    if let Some(name) = wanted.iter().find(is_due) {
        return HoldStep::ReleaseSecret(name.clone());
    }
    if ends {
        HoldStep::ReleaseProvider
    } else if view.recorded != wanted {
        HoldStep::Record(wanted)
    } else {
        HoldStep::Rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// More steps than there are things to hold and to write down.
    const PATIENCE: usize = 20;
    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn names() -> impl Strategy<Value = BTreeSet<String>> {
        prop::collection::btree_set("[abc]", 0..3)
    }

    fn ago(seconds: i64) -> Timestamp {
        NOW - SignedDuration::from_secs(seconds)
    }

    fn secret() -> impl Strategy<Value = SecretInUse> {
        let age = prop::option::of(prop_oneof![Just(0_i64), Just(59), Just(60), Just(3600)]);
        (age, any::<bool>()).prop_map(|(age, held)| SecretInUse { deleted_at: age.map(ago), held })
    }

    prop_compose! {
        /// What crashes between any two steps can leave, and users can make of it.
        fn view()(
            deleting: bool,
            used: bool,
            revoking: bool,
            held: bool,
            named in names(),
            recorded in names(),
            secrets in prop::collection::btree_map("[abc]", secret(), 0..4),
        ) -> ProviderInUse {
            let recorded = if held { recorded } else { BTreeSet::new() };
            let held_secret = |name: &String, secret: SecretInUse| SecretInUse {
                held: secret.held && recorded.contains(name),
                ..secret
            };
            let secrets = secrets.into_iter().map(|(name, secret)| (name.clone(), held_secret(&name, secret)));
            ProviderInUse { deleting, held, used, revoking, now: NOW, secrets: secrets.collect(), named, recorded }
        }
    }

    /// Carries out a step as the API server would.
    fn carry_out(view: &mut ProviderInUse, step: &HoldStep) {
        match step {
            HoldStep::HoldProvider => {
                assert!(!view.deleting, "the API server refuses new finalizers then");
                view.held = true;
            }
            HoldStep::Record(names) => view.recorded.clone_from(names),
            HoldStep::HoldSecret(name) => {
                let secret = view.secrets.get_mut(name).unwrap();
                assert!(secret.deleted_at.is_none(), "the API server refuses new finalizers then");
                assert!(view.held && view.recorded.contains(name), "held, and nobody would know");
                secret.held = true;
            }
            HoldStep::ReleaseSecret(name) => {
                let explained = view.deleting || view.revoking;
                let secret = view.secrets.get_mut(name).unwrap();
                let is_replaced = secret.deleted_at.is_some_and(|at| at <= ago(60)) && !explained;
                let needed = (view.used || !view.deleting) && view.named.contains(name);
                assert!(!needed || is_replaced, "still needed");
                secret.held = false;
                if secret.deleted_at.is_some() {
                    view.secrets.remove(name);
                }
            }
            HoldStep::ReleaseProvider => {
                assert!(view.deleting && !view.used, "still needed");
                assert!(view.secrets.values().all(|secret| !secret.held), "a Secret is held for ever");
                view.held = false;
            }
            HoldStep::Rest => {}
        }
    }

    proptest! {
        #[test]
        fn what_is_needed_is_held_and_nothing_else(mut view in view()) {
            for _ in 0..PATIENCE {
                match hold(&view) {
                    HoldStep::Rest => break,
                    step => carry_out(&mut view, &step),
                }
            }
            prop_assert_eq!(hold(&view), HoldStep::Rest);
            prop_assert!(!(view.held && view.deleting && !view.used), "held though nobody needs it");
            if view.held {
                prop_assert_eq!(&view.recorded, &view.named);
                for (name, secret) in &view.secrets {
                    let needed = view.named.contains(name);
                    let deleted = secret.deleted_at.is_some();
                    prop_assert!(secret.held == needed || deleted && needed, "{} {:?}", name, secret);
                    prop_assert!(!view.is_replaced(*secret), "{} is held, and can't be replaced", name);
                }
            }
        }
    }
}
