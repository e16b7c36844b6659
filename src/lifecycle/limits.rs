//! The permissions that a provider gives a namespace. The operator checks each limit before it creates a key, and a
//! refusal names the limit.
//!
//! Limits apply to every new key, including one that replaces another. It does not matter whether a ServiceKey already
//! has a key. The only evidence would be its status and its Secret, and the tenant writes the Secret.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Problem;
use crate::api::{
    Adoption, DEFAULT_ROLE, DeletionPolicy, IbmCloudRule, Instance, InstancePatterns, NO_ROLE, NamespaceRule,
    Permission, Reason, ServiceKeySpec,
};

/// The parameters of an IBM Cloud key that name a service ID and a role. The remote side receives them like all other
/// parameters, so they would bypass a limit that is checked only on the fields of the spec.
const SERVICE_ID_PARAMETER: &str = "serviceid_crn";
const ROLE_PARAMETER: &str = "role_crn";

/// The permissions that a provider gives the ServiceKeys of one namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Allowance {
    /// No limits: the provider belongs to the namespace.
    Everything,
    /// The rules of a provider that several namespaces share.
    Shared {
        provider: String,
        rules: Arc<[NamespaceRule]>,
        /// The index of the rule that applies, if any does.
        applies: Option<usize>,
    },
}

/// The parts of a ServiceKey that limits apply to.
#[derive(Clone, Copy, Debug)]
pub struct RequestedKey<'a> {
    pub namespace: &'a str,
    pub spec: &'a ServiceKeySpec,
    /// Whether the status records a key. Limits on adoption and `Retain` are reported only before that; afterwards the
    /// operator only ignores the settings that they forbid.
    pub has_key: bool,
}

/// The spaces that an instance must be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceLimit {
    /// GUIDs of the spaces.
    pub spaces: Vec<String>,
    /// The field with this limit, for messages.
    pub limit: String,
}

/// Returns the refused request and the limit that refuses it.
type LimitCheck = fn(&NamespaceLimits<'_>, &RequestedKey<'_>) -> Option<String>;

/// The checks in the order in which refusals are reported.
const CHECKS: [LimitCheck; 6] = [
    // A login that many namespaces share sees the instances of all of them.
    |limits, wish| limits.instance(wish),
    // A role with more permissions than the consumer has, or another team's identity.
    |limits, wish| limits.role(wish),
    |limits, wish| limits.service_id(wish),
    |limits, wish| limits.parameters_of_spec(wish),
    // A key that another team created by hand.
    |limits, wish| limits.adoption(wish),
    // A key that is never revoked.
    |limits, wish| limits.retain(wish),
];

impl Allowance {
    /// Why no key may be created for this ServiceKey.
    #[must_use]
    pub fn refusal(&self, wish: &RequestedKey<'_>) -> Option<Problem> {
        let limits = self.limits()?;
        let refused = CHECKS.iter().find_map(|check| check(&limits, wish))?;
        Some(limits.not_permitted(wish.namespace, &refused))
    }

    /// Why no key may be created with these parameters, which may come from Secrets.
    #[must_use]
    pub fn refusal_of_parameters(&self, namespace: &str, parameters: &Map<String, Value>) -> Option<Problem> {
        let limits = self.limits()?;
        let refused = limits.parameters(parameters)?;
        Some(limits.not_permitted(namespace, &refused))
    }

    /// Whether an existing key may be adopted.
    #[must_use]
    pub fn permits_adoption(&self) -> bool {
        self.limits().is_none_or(|limits| limits.adopts() == Permission::Allow)
    }

    /// The limit that forbids a restored ServiceKey to continue with the keys that its Secret names.
    #[must_use]
    pub fn restore_denied(&self) -> Option<String> {
        let limits = self.limits()?;
        match limits.rule {
            Some(rule) if rule.restore == Permission::Allow => None,
            Some(_) => Some(format!("{} is `Deny`", limits.named("restore"))),
            None => {
                Some(format!("no rule in `spec.rules` of {} has `restore: Allow` for it", limits.provider))
            }
        }
    }

    /// The limit that forbids keeping keys when their ServiceKey is deleted.
    #[must_use]
    pub fn retain_denied(&self) -> Option<String> {
        self.limits()?.denied(|rule| rule.retain, "retain")
    }

    /// The limit that forbids a ServiceKey to abandon keys that can't be revoked.
    #[must_use]
    pub fn abandon_denied(&self) -> Option<String> {
        self.limits()?.denied(|rule| rule.abandon, "abandon")
    }

    /// The limit that forbids a key without a role. A service without roles gives such a key all permissions.
    #[must_use]
    pub fn no_role_denied(&self) -> Option<String> {
        let limits = self.limits()?;
        (!limits.permits_role(NO_ROLE)).then(|| limits.named("ibmCloud.roles"))
    }

    /// The spaces that instances must be in, if a rule limits them.
    #[must_use]
    pub fn spaces(&self) -> Option<SpaceLimit> {
        let limits = self.limits()?;
        let spaces = limits.rule?.cloud_foundry.as_ref()?.spaces.clone();
        Some(SpaceLimit { spaces, limit: limits.named("cloudFoundry.spaces") })
    }

    /// How many ServiceKeys the namespace may have.
    #[must_use]
    pub fn max_keys(&self) -> Option<usize> {
        usize::try_from(self.limits()?.rule?.max_keys?).ok()
    }

    /// Why the ServiceKey exceeds the limit on ServiceKeys.
    #[must_use]
    pub fn limit_exceeded(&self, namespace: &str) -> Option<Problem> {
        let limits = self.limits()?;
        let max = limits.rule?.max_keys?;
        Some(Problem {
            reason: Reason::LimitExceeded,
            message: format!(
                "{} permits the namespace `{namespace}` at most {max} ServiceKeys, and others came first (`{}`); \
                 delete one of them, or ask the provider's administrator for a higher limit",
                limits.provider,
                limits.field("maxKeys")
            ),
        })
    }

    fn limits(&self) -> Option<NamespaceLimits<'_>> {
        match self {
            Self::Everything => None,
            Self::Shared { provider, rules, applies } => {
                let rule = applies.and_then(|index| rules.get(index));
                Some(NamespaceLimits { provider, rule, index: applies.unwrap_or_default() })
            }
        }
    }
}

/// The rule that applies, if any does, and its name for messages.
#[derive(Clone, Copy)]
struct NamespaceLimits<'a> {
    provider: &'a str,
    rule: Option<&'a NamespaceRule>,
    index: usize,
}

impl<'a> NamespaceLimits<'a> {
    fn not_permitted(&self, namespace: &str, refused: &str) -> Problem {
        Problem {
            reason: Reason::NotPermitted,
            message: format!("{} does not permit the namespace `{namespace}` {refused}", self.provider),
        }
    }

    /// The path of a field of the rule.
    fn field(&self, field: &str) -> String {
        format!("spec.rules[{}].{field}", self.index)
    }

    fn named(&self, field: &str) -> String {
        format!("`{}` of {}", self.field(field), self.provider)
    }

    fn denied(&self, permission: impl Fn(&NamespaceRule) -> Permission, field: &str) -> Option<String> {
        (permission(self.rule?) == Permission::Deny).then(|| self.named(field))
    }

    fn adopts(&self) -> Permission {
        self.rule.map_or(Permission::Deny, |rule| rule.adoption)
    }

    fn instance(&self, wish: &RequestedKey<'_>) -> Option<String> {
        let InstancePatterns { names, ids, crns } = self.rule?.instances.as_ref()?;
        let Instance { name, id, crn, offering: _, plan: _, annotations: _ } = &wish.spec.instance;
        [("name", "names", name, names), ("id", "ids", id, ids), ("crn", "crns", crn, crns)]
            .into_iter()
            .find_map(|(field, limit, given, patterns)| {
                let given = given.as_ref().filter(|given| !any_matches(patterns, given))?;
                Some(format!(
                    "keys for the instance `{given}`: `{}` does not list it; ask the provider's administrator, or \
                     create the ServiceKey again with an `instance.{field}` that is listed",
                    self.field(&format!("instances.{limit}"))
                ))
            })
    }

    fn ibm_cloud(&self) -> Option<&'a IbmCloudRule> {
        self.rule?.ibm_cloud.as_ref()
    }

    fn role(&self, wish: &RequestedKey<'_>) -> Option<String> {
        let key = wish.spec.ibm_cloud.clone().unwrap_or_default();
        let own = key.access.iter().flat_map(|access| &access.roles).map(String::as_str);
        // A key with an access has no role of its own, unless the spec names one.
        let named = match (key.role.as_deref(), &key.access) {
            (Some(role), _) => Some(role),
            (None, None) => Some(DEFAULT_ROLE),
            (None, Some(_)) => None,
        };
        let wanted = named.into_iter().chain(own).find(|role| !self.permits_role(role))?;
        Some(format!(
            "the role `{wanted}`: `{}` does not list it; ask the provider's administrator, or create the ServiceKey \
             again with a role that is listed",
            self.field("ibmCloud.roles")
        ))
    }

    fn service_id(&self, wish: &RequestedKey<'_>) -> Option<String> {
        let access = wish.spec.ibm_cloud.as_ref()?.access.as_ref()?;
        let wanted = access.service_id_crn.as_deref()?;
        (!self.permits_service_id(wanted)).then(|| {
            format!(
                "the service ID `{wanted}`: `{}` does not list it; ask the provider's administrator, or create the \
                 ServiceKey again without it",
                self.field("ibmCloud.serviceIds")
            )
        })
    }

    fn permits_service_id(&self, wanted: &str) -> bool {
        self.ibm_cloud().is_none_or(|IbmCloudRule { roles, service_ids }| {
            (service_ids.is_empty() && roles.is_empty()) || any_matches(service_ids, wanted)
        })
    }

    fn permits_role(&self, wanted: &str) -> bool {
        self.ibm_cloud().is_none_or(|limits| limits.roles.is_empty() || lists(&limits.roles, wanted))
    }

    fn parameters_of_spec(&self, wish: &RequestedKey<'_>) -> Option<String> {
        self.parameters(&wish.spec.parameters)
    }

    /// The message does not quote the values: they may come from a Secret that readers of the status may not read.
    fn parameters(&self, parameters: &Map<String, Value>) -> Option<String> {
        let permits = |name: &str, value: &Value| {
            // A value that is not a text is not a name that a rule could list.
            let wanted = value.as_str().unwrap_or_default();
            if name.eq_ignore_ascii_case(SERVICE_ID_PARAMETER) {
                self.permits_service_id(wanted)
            } else {
                !name.eq_ignore_ascii_case(ROLE_PARAMETER) || self.permits_role(wanted)
            }
        };
        let (name, _) = parameters.iter().find(|(name, value)| !permits(name, value))?;
        let limit = if name.eq_ignore_ascii_case(SERVICE_ID_PARAMETER) { "serviceIds" } else { "roles" };
        Some(format!(
            "the value of the parameter `{name}`: `{}` does not list it; ask the provider's administrator, or remove \
             the parameter",
            self.field(&format!("ibmCloud.{limit}"))
        ))
    }

    fn adoption(&self, wish: &RequestedKey<'_>) -> Option<String> {
        let wanted = wish.spec.adoption == Adoption::IfExists && !wish.has_key;
        (wanted && self.adopts() == Permission::Deny).then(|| {
            let limit = match self.rule {
                Some(_) => format!("`{}` is `Deny`", self.field("adoption")),
                None => "no rule in `spec.rules` has `adoption: Allow` for it".to_owned(),
            };
            format!(
                "to adopt existing keys: {limit}; ask the provider's administrator, or write `adoption: \
                 Never`"
            )
        })
    }

    fn retain(&self, wish: &RequestedKey<'_>) -> Option<String> {
        let wanted = wish.spec.deletion_policy == DeletionPolicy::Retain && !wish.has_key;
        let denied = self.denied(|rule| rule.retain, "retain").filter(|_| wanted);
        denied.map(|_| {
            format!(
                "to leave keys at the remote side: `{}` is `Deny`; ask the provider's administrator, or write \
                 `deletionPolicy: Delete`",
                self.field("retain")
            )
        })
    }
}

fn lists(permitted: &[String], wanted: &str) -> bool {
    permitted.iter().any(|permitted| permitted == wanted)
}

fn any_matches(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, text))
}

/// Whether a text matches the pattern, in which `*` matches any text and every other character matches itself.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // Even an empty text has one part.
    let Some(mut rest) = parts.next().and_then(|start| text.strip_prefix(start)) else { return false };
    let Some(end) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(end)
}

/// A ServiceKey's position in the order of those of its namespace that share a provider. The operator serves them in
/// this order, up to the limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeatRank {
    /// Whether it was not served since the operator started. If two ServiceKeys were created in the same second, their
    /// UIDs decide. Without this field, one that the operator sees later could displace one that it already serves.
    pub waits: bool,
    /// Whether the status records no key. After a restart, ServiceKeys with a key come first.
    pub lacks_key: bool,
    /// When it was created, by the API server's clock, in full seconds.
    pub created: Timestamp,
    pub uid: Uuid,
}

/// Whether a ServiceKey is among the first `max` ones in this order.
pub(crate) fn is_within_limit<'a>(
    mut order: impl Iterator<Item = &'a SeatRank>,
    max: usize,
    uid: Uuid,
) -> bool {
    order.by_ref().take(max).any(|standing| standing.uid == uid)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const PROVIDER: &str = "ClusterKeyProvider `shared`";

    fn spec(spec: Value) -> ServiceKeySpec {
        let mut whole = json!({"providerRef": {"kind": "ClusterKeyProvider", "name": "shared"}, "instance": {"name": "db"}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn shared(rules: Value) -> Allowance {
        let rules: Vec<NamespaceRule> = serde_json::from_value(rules).unwrap();
        let applies = rules.len().checked_sub(1);
        Allowance::Shared { provider: PROVIDER.to_owned(), rules: rules.into(), applies }
    }

    fn refused(allowance: &Allowance, wanted: Value, has_key: bool) -> Option<String> {
        let spec = spec(wanted);
        let problem = allowance.refusal(&RequestedKey { namespace: "team", spec: &spec, has_key })?;
        assert_eq!(problem.reason, Reason::NotPermitted);
        let start = format!("{PROVIDER} does not permit the namespace `team` ");
        Some(problem.message.strip_prefix(&start).unwrap_or_else(|| panic!("{}", problem.message)).to_owned())
    }

    /// The limit that a refusal names; `None` if nothing is refused.
    fn limit_that_refuses(rule: Value, wanted: Value) -> Option<String> {
        let refusal = refused(&shared(json!([rule])), wanted, false)?;
        let start = refusal.find("`spec.rules[0].").unwrap_or_else(|| panic!("{refusal}"));
        refusal[start..].split('`').nth(1).map(|field| field.trim_start_matches("spec.rules[0].").to_owned())
    }

    #[rstest]
    #[case::by_name(json!({"names": ["orders-*"]}), json!({"name": "orders-db"}), None)]
    #[case::another_name(json!({"names": ["orders-*"]}), json!({"name": "payments-db"}), Some("instances.names"))]
    #[case::another_way(json!({"names": ["orders-*"]}), json!({"id": "orders-db"}), Some("instances.ids"))]
    #[case::and_another(json!({"names": ["*"]}), json!({"crn": "crn:v1:x"}), Some("instances.crns"))]
    #[case::by_id(json!({"ids": ["1f3c"]}), json!({"id": "1f3c"}), None)]
    #[case::another_case(json!({"ids": ["1f3c"]}), json!({"id": "1F3C"}), Some("instances.ids"))]
    #[case::by_crn(json!({"crns": ["crn:v1:*:x::"]}), json!({"crn": "crn:v1:a:x::"}), None)]
    fn instances_are_those_that_are_listed(
        #[case] instances: Value,
        #[case] instance: Value,
        #[case] limit: Option<&str>,
    ) {
        let wanted = json!({"instance": instance});
        assert_eq!(limit_that_refuses(json!({"instances": instances}), wanted).as_deref(), limit);
    }

    #[rstest]
    #[case::listed(json!({"roles": ["Reader", "Writer"]}), json!({"role": "Writer"}), None)]
    #[case::another(json!({"roles": ["Reader"]}), json!({"role": "Manager"}), Some("ibmCloud.roles"))]
    #[case::by_crn(json!({"roles": ["Reader"]}), json!({"role": "crn:v1:::::serviceRole:Reader"}), Some("ibmCloud.roles"))]
    #[case::the_default(json!({"roles": ["Writer"]}), json!({}), Some("ibmCloud.roles"))]
    #[case::no_role_is_one_of_them(json!({"roles": ["Reader"]}), json!({"role": "NONE"}), Some("ibmCloud.roles"))]
    #[case::no_role_is_listed(json!({"roles": ["NONE"]}), json!({"role": "NONE"}), None)]
    #[case::the_default_is_more_than_none(json!({"roles": ["NONE"]}), json!({}), Some("ibmCloud.roles"))]
    #[case::own_service_id_without_a_role(json!({"roles": ["Writer"]}), json!({"access": {"roles": ["Writer"]}}), None)]
    #[case::of_own_service_id(json!({"roles": ["Reader"]}), json!({"access": {"roles": ["Reader", "Manager"]}}), Some("ibmCloud.roles"))]
    #[case::service_id_with_roles_of_its_own(json!({"roles": ["Reader"]}), json!({"access": {"serviceIdCrn": "crn:a"}}), Some("ibmCloud.serviceIds"))]
    #[case::listed_service_id(json!({"roles": ["Reader"], "serviceIds": ["crn:*"]}), json!({"access": {"serviceIdCrn": "crn:a"}}), None)]
    #[case::another_service_id(json!({"serviceIds": ["crn:b"]}), json!({"access": {"serviceIdCrn": "crn:a"}}), Some("ibmCloud.serviceIds"))]
    #[case::roles_are_free_then(json!({"serviceIds": ["crn:b"]}), json!({"role": "Manager"}), None)]
    fn roles_and_service_ids_are_those_that_are_listed(
        #[case] limits: Value,
        #[case] ibm_cloud: Value,
        #[case] limit: Option<&str>,
    ) {
        let wanted = json!({"ibmCloud": ibm_cloud});
        assert_eq!(limit_that_refuses(json!({"ibmCloud": limits}), wanted).as_deref(), limit);
    }

    #[rstest]
    #[case(json!({"serviceIds": ["crn:b"]}), json!({"serviceid_crn": "crn:a"}), Some("ibmCloud.serviceIds"))]
    #[case(json!({"serviceIds": ["crn:b"]}), json!({"ServiceID_CRN": "crn:a"}), Some("ibmCloud.serviceIds"))]
    #[case(json!({"serviceIds": ["crn:b"]}), json!({"serviceid_crn": ["crn:b"]}), Some("ibmCloud.serviceIds"))]
    #[case(json!({"serviceIds": ["crn:b"]}), json!({"ServiceId_crn": "crn:b", "serviceid_crn": "crn:a"}), Some("ibmCloud.serviceIds"))]
    #[case(json!({"serviceIds": ["crn:b"]}), json!({"serviceid_crn": "crn:b"}), None)]
    #[case(json!({"roles": ["Reader"]}), json!({"serviceid_crn": "crn:b"}), Some("ibmCloud.serviceIds"))]
    #[case(json!({"roles": ["Reader"]}), json!({"role_crn": "crn:m"}), Some("ibmCloud.roles"))]
    #[case(json!({"serviceIds": ["crn:b"]}), json!({"role_crn": "crn:m"}), None)]
    fn parameters_are_no_way_around(
        #[case] limits: Value,
        #[case] parameters: Value,
        #[case] limit: Option<&str>,
    ) {
        let rule = json!({"ibmCloud": limits});
        let wanted = json!({"parameters": parameters});
        assert_eq!(limit_that_refuses(rule.clone(), wanted).as_deref(), limit);
        let merged = parameters.as_object().unwrap();
        let refusal = shared(json!([rule])).refusal_of_parameters("team", merged);
        assert_eq!(refusal.is_some(), limit.is_some());
        assert!(!refusal.is_some_and(|refusal| refusal.message.contains("crn:")), "a value may be secret");
    }

    #[rstest]
    //                                                     the first key, later ones
    #[case::by_default(json!({}),                          [false, true])]
    #[case::where_permitted(json!({"adoption": "Allow"}),  [true,  true])]
    #[case::where_denied(json!({"adoption": "Deny"}),      [false, true])]
    fn keys_are_taken_over_where_that_is_permitted(#[case] rule: Value, #[case] expected: [bool; 2]) {
        let wanted = json!({"adoption": "IfExists", "keyName": "by-hand"});
        let allowance = shared(json!([rule]));
        assert_eq!(allowance.permits_adoption(), expected[0]);
        assert_eq!(
            [false, true].map(|has_key| refused(&allowance, wanted.clone(), has_key).is_none()),
            expected
        );
    }

    #[test]
    fn without_a_rule_only_adoption_is_refused() {
        let allowance = shared(json!([]));
        let adoption = json!({"adoption": "IfExists", "keyName": "by-hand"});
        let refusal = refused(&allowance, adoption.clone(), false).unwrap();
        assert!(refusal.contains("no rule in `spec.rules` has `adoption: Allow`"), "{refusal}");
        let everything_else = json!({"deletionPolicy": "Retain", "ibmCloud": {"role": "Manager"}});
        assert_eq!(refused(&allowance, everything_else, false), None);
        assert_eq!((allowance.retain_denied(), allowance.abandon_denied()), (None, None));
        assert_eq!((allowance.max_keys(), allowance.spaces()), (None, None));

        let spec = spec(adoption);
        assert_eq!(
            Allowance::Everything.refusal(&RequestedKey { namespace: "team", spec: &spec, has_key: false }),
            None
        );
        assert!(Allowance::Everything.permits_adoption());
    }

    #[test]
    fn what_may_not_stay_is_told_with_the_limit() {
        let allowance = shared(json!([{}, {"retain": "Deny", "abandon": "Deny", "maxKeys": 3}]));
        let named = |field| Some(format!("`spec.rules[1].{field}` of {PROVIDER}"));
        assert_eq!(allowance.retain_denied(), named("retain"));
        assert_eq!(allowance.abandon_denied(), named("abandon"));
        let retain = json!({"deletionPolicy": "Retain"});
        assert!(
            refused(&allowance, retain.clone(), false).unwrap().contains("`spec.rules[1].retain` is `Deny`")
        );
        assert_eq!(refused(&allowance, retain, true), None);
        let no_place = allowance.limit_exceeded("team").unwrap();
        assert_eq!(no_place.reason, Reason::LimitExceeded);
        assert!(
            no_place.message.contains("3 ServiceKeys")
                && no_place.message.contains("`spec.rules[1].maxKeys`")
        );
    }

    #[rstest]
    #[case("*", "", true)]
    #[case("*", "anything", true)]
    #[case("a", "a", true)]
    #[case("a", "ab", false)]
    #[case("a*", "ab", true)]
    #[case("a*", "ba", false)]
    #[case("*a", "ba", true)]
    #[case("*a", "ab", false)]
    #[case("a*a", "a", false)]
    #[case("a*a", "aa", true)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("a*b*c", "a-c-b", false)]
    #[case("a**c", "abc", true)]
    #[case("a?c", "abc", false)]
    #[case("[a-z]", "b", false)]
    #[case("é*", "éa", true)]
    fn a_star_stands_for_any_text(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern, text), expected);
    }

    #[rstest]
    #[case::the_older_one([(false, true, 1, 2), (false, true, 2, 1)], 1, [true, false])]
    #[case::by_uid_in_the_same_second([(true, true, 1, 2), (true, true, 1, 1)], 1, [false, true])]
    #[case::who_has_a_place_keeps_it([(false, true, 1, 2), (true, true, 1, 1)], 1, [true, false])]
    #[case::who_has_a_key_comes_first([(true, false, 2, 2), (true, true, 1, 1)], 1, [true, false])]
    #[case::all([(true, true, 1, 1), (true, true, 1, 2)], 2, [true, true])]
    #[case::none([(false, false, 1, 1), (true, true, 1, 2)], 0, [false, false])]
    fn places_are_given_in_order(
        #[case] standings: [(bool, bool, i64, u128); 2],
        #[case] max: usize,
        #[case] expected: [bool; 2],
    ) {
        let standings = standings.map(|(waits, lacks_key, second, uid)| SeatRank {
            waits,
            lacks_key,
            created: Timestamp::from_second(second).unwrap(),
            uid: Uuid::from_u128(uid),
        });
        let mut order = standings.clone();
        order.sort();
        assert_eq!(standings.map(|standing| is_within_limit(order.iter(), max, standing.uid)), expected);
    }
}
