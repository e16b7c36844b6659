//! Quotas: limits for the number of objects in a namespace.
//!
//! The usage is counted at each create, so it is always current, and `status` is not filled.

use serde_json::Value;

use super::{
    kinds::{Definitions, Kind, Strategy},
    status::Refusal,
    store::Store,
};

/// Refuses the create of one more object than a quota admits.
pub(super) fn check(
    definitions: &Definitions,
    store: &Store,
    kind: &Kind,
    namespace: Option<&str>,
    name: &str,
) -> Result<(), Refusal> {
    let Some(namespace) = namespace else { return Ok(()) };
    for quotas in definitions.by_strategy(Strategy::Quota) {
        for (_, quota) in store.within(quotas, Some(namespace)) {
            for (resource, limit) in quota.value["spec"]["hard"].as_object().into_iter().flatten() {
                let limit = limit.as_u64().or_else(|| limit.as_str()?.parse().ok());
                let Some(limit) = limit.filter(|_| counts(resource, kind)) else { continue };
                let used = store.within(kind, Some(namespace)).count() as u64;
                if used >= limit {
                    let quota = quota.metadata()["name"].as_str().unwrap_or_default();
                    let words = format!(
                        "exceeded quota: {quota}, requested: {resource}=1, used: {resource}={used}, limited: \
                         {resource}={limit}"
                    );
                    return Err(Refusal::forbidden(kind, name, &words));
                }
            }
        }
    }
    Ok(())
}

/// Whether a limit of this name counts objects of this kind.
fn counts(resource: &str, kind: &Kind) -> bool {
    resource.strip_prefix("count/") == Some(&kind.qualified_resource())
        || (kind.group.is_empty() && resource == kind.plural)
}

/// The limits that the model can't check.
pub(super) fn unmodelled(quota: &Value) -> Option<String> {
    let mut limits = quota["spec"]["hard"].as_object()?.keys();
    limits
        .find(|limit| !limit.starts_with("count/") && *limit != "secrets" && *limit != "resourcequotas")
        .cloned()
}
