//! The types, labels and annotations that the administrator allows on Secrets. A user who may write
//! ServiceKeys, but not Secrets, must not gain rights through a Secret that another controller acts on.

use std::str::FromStr;

use super::{Layout, RenderError};

/// Types that are denied by default, because other controllers treat their content as more than credentials.
/// The types that Kubernetes itself fills in are always denied.
pub(crate) const DENIED_TYPES: [&str; 2] = [
    // Helm: the manifests that the next upgrade or rollback applies, with the rights of the user who runs it.
    "helm.sh/release.v1",
    // Rancher: the commands that its agents run on nodes.
    "rke.cattle.io/machine-plan",
];

/// Labels and annotations that are denied by default.
pub(crate) const DENIED_METADATA: [&str; 2] = [
    // Argo CD: the clusters and repositories that it trusts.
    "argocd.argoproj.io/secret-type",
    // Sealed Secrets: the keys that new Secrets are sealed for.
    "sealedsecrets.bitnami.com/sealed-secrets-key",
];

/// A type, or the key of a label or annotation. With `*` at the end, it matches every name with that prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

impl FromStr for NamePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let start = text.strip_suffix('*').unwrap_or(text);
        if start.contains('*') || start.contains(char::is_whitespace) {
            return Err(format!("`{text}` is not a name such as `example.com/role` or `example.com/*`"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl NamePattern {
    fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == self.0,
        }
    }
}

/// Names that are allowed. A name on both lists is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// If empty, all names are allowed.
    allowed: Vec<NamePattern>,
    denied: Vec<NamePattern>,
}

/// The list that refuses a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefusingList {
    Denied,
    NotAllowed,
}

impl Admitted {
    /// Allows the names that one of `allowed` matches, or all names if there is none, except those that one
    /// of `denied` matches. Empty patterns, which an empty environment variable leaves, are ignored.
    #[must_use]
    pub fn new(allowed: Vec<NamePattern>, denied: Vec<NamePattern>) -> Self {
        let given = |patterns: Vec<NamePattern>| patterns.into_iter().filter(|it| !it.0.is_empty()).collect();
        Self { allowed: given(allowed), denied: given(denied) }
    }

    fn denying(names: &[&str]) -> Self {
        Self::new(Vec::new(), names.iter().map(|name| NamePattern((*name).to_owned())).collect())
    }

    fn refusal(&self, name: &str) -> Option<RefusingList> {
        let has_match = |patterns: &[NamePattern]| patterns.iter().any(|pattern| pattern.matches(name));
        if has_match(&self.denied) {
            Some(RefusingList::Denied)
        } else if !self.allowed.is_empty() && !has_match(&self.allowed) {
            Some(RefusingList::NotAllowed)
        } else {
            None
        }
    }
}

/// The administrator's restrictions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restrictions {
    /// Types of Secrets.
    pub types: Admitted,
    /// Keys of labels and annotations that `spec.secret` may set.
    pub metadata: Admitted,
}

impl Default for Restrictions {
    fn default() -> Self {
        Self { types: Admitted::denying(&DENIED_TYPES), metadata: Admitted::denying(&DENIED_METADATA) }
    }
}

impl Restrictions {
    /// Refuses a layout that the administrator does not admit.
    ///
    /// # Errors
    /// The first refusal, with the flag and the chart value that cause it.
    pub fn check(&self, layout: &Layout) -> Result<(), RenderError> {
        if let Some(refusal) = self.types.refusal(&layout.type_) {
            let problem = match refusal {
                RefusingList::Denied => {
                    "is denied by the administrator (flag `--denied-secret-types`, chart value `secrets.types.denied`); \
                     choose another `spec.secret.type`"
                }
                RefusingList::NotAllowed => {
                    "is not among the types that the administrator allows (flag `--secret-types`, chart value \
                     `secrets.types.allowed`); choose another `spec.secret.type`"
                }
            };
            return Err(RenderError::Type { type_: layout.type_.clone(), problem: problem.to_owned() });
        }
        for (field, map) in [("labels", &layout.labels), ("annotations", &layout.annotations)] {
            let refused = map.keys().find_map(|key| Some((key, self.metadata.refusal(key)?)));
            if let Some((key, refusal)) = refused {
                let problem = match refusal {
                    RefusingList::Denied => {
                        "is denied by the administrator (flag `--denied-secret-metadata`, chart value \
                         `secrets.metadata.denied`); remove it"
                    }
                    RefusingList::NotAllowed => {
                        "is not among the keys that the administrator allows (flag `--secret-metadata`, chart value \
                         `secrets.metadata.allowed`); remove it"
                    }
                };
                return Err(RenderError::Metadata { field, key: key.clone(), problem });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;

    fn admitted(allowed: &[&str], denied: &[&str]) -> Admitted {
        let patterns = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        Admitted::new(patterns(allowed), patterns(denied))
    }

    fn layout(type_: &str, label: &str, annotation: &str) -> Layout {
        let one = |key: &str| BTreeMap::from([(key.to_owned(), "x".to_owned())]);
        Layout {
            type_: type_.to_owned(),
            labels: one(label),
            annotations: one(annotation),
            ..Layout::default()
        }
    }

    #[rstest]
    #[case::everything(&[], &[], None)]
    #[case::nothing_given(&[""], &[""], None)]
    #[case::denied(&[], &["example.com/role"], Some(RefusingList::Denied))]
    #[case::denied_by_its_start(&[], &["example.com/*"], Some(RefusingList::Denied))]
    #[case::another_one_is_denied(&[], &["example.com/rol", "example.com/roles"], None)]
    #[case::allowed(&["example.com/*"], &[], None)]
    #[case::another_one_is_allowed(&["example.org/*"], &[], Some(RefusingList::NotAllowed))]
    #[case::allowed_and_denied(&["*"], &["example.com/role"], Some(RefusingList::Denied))]
    fn names_are_admitted(
        #[case] allowed: &[&str],
        #[case] denied: &[&str],
        #[case] refusal: Option<RefusingList>,
    ) {
        assert_eq!(admitted(allowed, denied).refusal("example.com/role"), refusal);
    }

    #[rstest]
    #[case::in_the_middle("a*b")]
    #[case::twice("a**")]
    #[case::space("a b")]
    fn what_is_not_a_pattern_is_refused(#[case] text: &str) {
        assert!(text.parse::<NamePattern>().is_err());
    }

    #[rstest]
    #[case::harmless("example.com/mine", "team", "note", "")]
    #[case::of_helm(
        "helm.sh/release.v1",
        "team",
        "note",
        "`helm.sh/release.v1` is denied by the administrator"
    )]
    #[case::of_rancher("rke.cattle.io/machine-plan", "team", "note", "secrets.types.denied")]
    #[case::of_argo_cd("Opaque", "argocd.argoproj.io/secret-type", "note", "`spec.secret.labels`")]
    #[case::as_an_annotation("Opaque", "team", "argocd.argoproj.io/secret-type", "`spec.secret.annotations`")]
    #[case::of_sealed_secrets(
        "Opaque",
        "sealedsecrets.bitnami.com/sealed-secrets-key",
        "note",
        "secrets.metadata.denied"
    )]
    fn what_grants_rights_is_denied_unless_the_administrator_says_otherwise(
        #[case] type_: &str,
        #[case] label: &str,
        #[case] annotation: &str,
        #[case] words: &str,
    ) {
        let layout = layout(type_, label, annotation);
        match Restrictions::default().check(&layout) {
            Ok(()) => assert_eq!(words, ""),
            Err(error) => assert!(!words.is_empty() && error.to_string().contains(words), "{error}"),
        }
        let open = Restrictions { types: admitted(&[], &[]), metadata: admitted(&[], &[]) };
        assert_eq!(open.check(&layout), Ok(()));
    }
}
