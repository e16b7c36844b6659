//! What may be said of an error of the Kubernetes client.

use std::error::Error;

/// The words of an error, without what it quotes of an answer: `serde_json` repeats a string where it expected something
/// else, and that string may be a password.
#[must_use]
pub fn words(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(present) = cause {
        if let Some(json) = present.downcast_ref::<serde_json::Error>() {
            return format!(
                "an answer of the API server does not have the expected form, at line {} and column {}",
                json.line(),
                json.column()
            );
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
        assert!(refused.to_string().contains("hunter2"), "there would be nothing to hide: {refused}");
        let error = watcher::Error::WatchFailed(kube::Error::SerdeError(refused));
        let said = words(&error);
        assert!(
            said.starts_with("an answer of the API server does not have the expected form, at line 1"),
            "{said}"
        );
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn other_errors_say_what_they_say() {
        assert_eq!(words(&std::fmt::Error), std::fmt::Error.to_string());
    }
}
