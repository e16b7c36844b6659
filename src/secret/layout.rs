//! The layout of a Secret, as the user defines it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Digest, Entries, ParametersKey, RenderError, admission, template};

/// Everything about the Secret except its credentials: `spec.secret` without the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The Secret's type; `Opaque` if the user set none.
    pub type_: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The user's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The template of each entry. Without templates, the Secret has one entry for each top-level credential.
    /// With templates, it has only the templated entries.
    pub template: BTreeMap<String, String>,
    /// Whether the Secret stays when its ServiceKey is deleted. Then it has no owner reference, by which
    /// the API server would delete it.
    pub outlives_owner: bool,
    /// The key of the digests of the ServiceKey's parameters, if it has such digests. It is an annotation of the Secret,
    /// because those who may read the Secret may read it.
    pub parameters_key: Option<ParametersKey>,
}

impl Layout {
    /// Checks everything that can be checked before a key exists.
    ///
    /// # Errors
    /// The first problem, including problems that the API server would report when the Secret is written.
    pub fn validate(&self) -> Result<(), RenderError> {
        admission::check_metadata(&self.labels, &self.annotations)?;
        admission::check_type(&self.type_)?;
        template::validate(&self.template)?;
        if self.template.is_empty() {
            return Ok(());
        }
        admission::check_names(&self.type_, |name| self.template.contains_key(name))
    }

    /// Renders the entries of the Secret from these credentials.
    ///
    /// # Errors
    /// When the credentials don't fit the layout, or the type of the Secret.
    pub fn render(&self, credentials: &Map<String, Value>) -> Result<Entries, RenderError> {
        let entries = if self.template.is_empty() {
            Entries::from_credentials(credentials)?
        } else {
            template::render(&self.template, credentials)?
        };
        admission::check_type(&self.type_)?;
        admission::check_names(&self.type_, |name| entries.expose(name).is_some())?;
        admission::check_values(&self.type_, &entries)?;
        Ok(entries)
    }

    /// A digest of the fields that determine the entries. While it stays the same, the Secret can keep its
    /// entries.
    #[must_use]
    pub fn rendering(&self) -> String {
        let Self { type_, labels: _, annotations: _, template, outlives_owner: _, parameters_key: _ } = self;
        Digest::new("servicekeys.dev/rendering/1").field(type_).pairs(template.iter()).finish()
    }

    /// A digest of the whole layout. When it changes, the operator writes the Secret again. If the same
    /// layout renders differently in a new release, increase the number at the end of the digest's purpose.
    #[must_use]
    pub fn digest(&self) -> String {
        let Self { type_, labels, annotations, template, outlives_owner, parameters_key } = self;
        let digest = Digest::new("servicekeys.dev/layout/1")
            .field(type_)
            .pairs(labels.iter())
            .pairs(annotations.iter())
            .pairs(template.iter());
        let digest = if *outlives_owner { digest.field("outlives owner") } else { digest };
        match parameters_key {
            Some(key) => digest.field("parameters key").field(key.text()),
            None => digest,
        }
        .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn of_type(type_: &str, template: &[(&str, &str)]) -> Layout {
        Layout { type_: type_.to_owned(), template: map(template), ..Layout::default() }
    }

    fn credentials(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_template_replaces_the_default_entries() {
        let layout = of_type("Opaque", &[("url", "https://{{ host }}")]);
        let entries = layout.render(&credentials(&json!({"host": "h", "password": "p"}))).unwrap();
        assert_eq!(entries.names().collect::<Vec<_>>(), ["url"]);
    }

    #[rstest]
    #[case::tls("kubernetes.io/tls", &[("tls.key", "x")], "`tls.crt`")]
    #[case::docker("kubernetes.io/dockerconfigjson", &[("auth", "x")], "`.dockerconfigjson`")]
    #[case::basic("kubernetes.io/basic-auth", &[("user", "x")], "`username`")]
    #[case::ssh("kubernetes.io/ssh-auth", &[("key", "x")], "`ssh-privatekey`")]
    fn a_type_that_lacks_an_entry_is_refused_early(
        #[case] type_: &str,
        #[case] template: &[(&str, &str)],
        #[case] expected: &str,
    ) {
        let message = of_type(type_, template).validate().unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(type_), "{message}");
        assert!(of_type(type_, &[]).validate().is_ok());
        let rendered = of_type(type_, &[]).render(&credentials(&json!({"other": "x"})));
        assert!(rendered.unwrap_err().to_string().contains(expected));
    }

    #[rstest]
    #[case::token("kubernetes.io/service-account-token")]
    #[case::bootstrap("bootstrap.kubernetes.io/token")]
    fn a_type_that_grants_rights_is_refused(#[case] type_: &str) {
        assert!(matches!(of_type(type_, &[]).validate(), Err(RenderError::Type { .. })));
        let rendered = of_type(type_, &[]).render(&credentials(&json!({"a": "x"})));
        assert!(matches!(rendered, Err(RenderError::Type { .. })));
    }

    #[rstest]
    #[case::json(r#"{"auths":{}}"#, true)]
    #[case::not_json("hunter2", false)]
    fn a_docker_config_is_json(#[case] config: &str, #[case] valid: bool) {
        let layout = of_type("kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", "{{ config }}")]);
        match layout.render(&credentials(&json!({"config": config}))) {
            Ok(_) => assert!(valid),
            Err(error) => assert!(!valid && !error.to_string().contains("hunter2")),
        }
    }

    #[test]
    fn the_digest_is_the_same_in_every_release() {
        assert_eq!(of_type("Opaque", &[("a", "{{ b }}")]).digest(), "9c2693c3127c18c2a28dcb6c4c224a61");
    }

    fn any_map() -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map("[ab]{1,2}", "[ab]{0,2}", 0..3)
    }

    prop_compose! {
        fn any_layout()(
            type_ in "[ab]{0,2}",
            labels in any_map(),
            annotations in any_map(),
            template in any_map(),
            outlives_owner in any::<bool>(),
            parameters_key in prop::option::of((0..3_u128).prop_map(ParametersKey::of)),
        ) -> Layout {
            Layout { type_, labels, annotations, template, outlives_owner, parameters_key }
        }
    }

    proptest! {
        #[test]
        fn digests_agree_exactly_when_layouts_do(one in any_layout(), other in any_layout()) {
            prop_assert_eq!(one == other, one.digest() == other.digest());
        }
    }
}
