//! The order of decisions: lists of named checks, each with its reason.
//!
//! The first check that returns a step decides. The last check of a list always returns one. Names and reasons are
//! defined only in these lists; `docs/design.md` is generated from them.

/// One list, in the order in which the operator evaluates its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionList {
    /// The situation that the list is for.
    pub title: &'static str,
    /// When the operator evaluates it.
    pub about: &'static str,
    /// The name of each check, and its reason.
    pub checks: Vec<(&'static str, &'static str)>,
}

pub(super) struct Check<F> {
    pub name: &'static str,
    pub why: &'static str,
    pub decide: F,
}

/// Declares the list of a module: `CHECKS` in order, `LAST`, and `decide`, which evaluates them.
///
/// A check is a function of the context that returns a step or `None`. The last one always returns a step.
macro_rules! decisions {
    (
        $(#[doc = $about:literal])+
        $title:literal, $context:ty => $step:ty:
        $($(#[doc = $why:literal])+ $check:ident,)+
        else
        $(#[doc = $last_why:literal])+ $last:ident
    ) => {
        const TITLE: &str = $title;

        const CHECKS: &[$crate::lifecycle::order::Check<fn(&$context) -> Option<$step>>] = &[
            $($crate::lifecycle::order::Check {
                name: stringify!($check),
                why: concat!($($why),+),
                decide: $check,
            },)+
        ];

        const LAST: $crate::lifecycle::order::Check<fn(&$context) -> $step> =
            $crate::lifecycle::order::Check {
                name: stringify!($last),
                why: concat!($($last_why),+),
                decide: $last,
            };

        $(#[doc = $about])+
        pub(super) fn decide(context: &$context) -> $step {
            let first = CHECKS.iter().find_map(|check| Some((check.name, (check.decide)(context)?)));
            let (_name, step) = first.unwrap_or_else(|| (LAST.name, (LAST.decide)(context)));
            #[cfg(test)]
            $crate::lifecycle::order::trace::note(TITLE, _name);
            step
        }

        pub(super) fn order() -> $crate::lifecycle::DecisionList {
            let checks = CHECKS.iter().map(|check| (check.name, check.why.trim()));
            $crate::lifecycle::DecisionList {
                title: TITLE,
                about: concat!($($about),+).trim(),
                checks: checks.chain([(LAST.name, LAST.why.trim())]).collect(),
            }
        }
    };
}

pub(super) use decisions;

/// Records the checks that decided, for tests.
#[cfg(test)]
pub(super) mod trace {
    use std::{cell::RefCell, collections::BTreeSet};

    thread_local! {
        static DECIDED: RefCell<Option<BTreeSet<(&'static str, &'static str)>>> = const { RefCell::new(None) };
    }

    pub(crate) fn note(list: &'static str, check: &'static str) {
        DECIDED.with_borrow_mut(|decided| {
            if let Some(decided) = decided {
                decided.insert((list, check));
            }
        });
    }

    /// The checks that decided in this thread while `run` ran, each with the title of its list.
    pub(crate) fn decided_during(run: impl FnOnce()) -> BTreeSet<(&'static str, &'static str)> {
        DECIDED.set(Some(BTreeSet::new()));
        run();
        DECIDED.take().unwrap_or_default()
    }
}
