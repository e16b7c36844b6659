//! Error texts of the Kubernetes client that are safe to show.

use std::error::Error;

/// The text of an error, without quotes from an answer. `serde_json` quotes a string that it did not expect, and that
/// string may be a password.
#[must_use]
pub(crate) fn words(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(present) = cause {
        if let Some(json) = present.downcast_ref::<serde_json::Error>() {
            return format!(
                "an answer of the API server has an unexpected form at line {} and column {}",
                json.line(),
                json.column()
            );
        }
        if let Some(kube::Error::Api(status)) = present.downcast_ref::<kube::Error>() {
            return format!("{} (status {})", status.message, status.code);
        }
        cause = present.source();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::runtime::watcher;

    use super::*;

    #[test]
    fn a_string_of_an_answer_is_not_repeated() {
        let refused = serde_json::from_str::<Secret>(r#"{"data": "hunter2"}"#).unwrap_err();
        assert!(refused.to_string().contains("hunter2"), "the error quotes nothing: {refused}");
        let error = watcher::Error::WatchFailed(kube::Error::SerdeError(refused));
        let said = words(&error);
        assert!(said.starts_with("an answer of the API server has an unexpected form at line 1"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn a_refusal_of_the_api_server_is_told_in_its_own_words() {
        let status = kube::core::Status::failure("secrets \"creds\" is forbidden: no quota", "Forbidden");
        let refused = kube::Error::Api(Box::new(status.with_code(403)));
        assert_eq!(words(&refused), "secrets \"creds\" is forbidden: no quota (status 403)");
        let watched = watcher::Error::WatchFailed(refused);
        assert_eq!(words(&watched), "secrets \"creds\" is forbidden: no quota (status 403)");
    }

    #[test]
    fn other_errors_say_what_they_say() {
        assert_eq!(words(&std::fmt::Error), std::fmt::Error.to_string());
    }
}
