//! Logins that a token server refused. The provider's status records them, so that a restarted operator does
//! not try again at once: servers lock accounts after a few wrong passwords.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::store::Origin;
use crate::{
    api::RefusedLogin,
    backend::{BackendError, LOGIN_PAUSE},
    lifecycle::full_second,
};

/// When the operator may try the refused login again. A cached failure contains only the rest of the pause.
pub(super) fn until(error: &BackendError, now: Timestamp) -> Option<Timestamp> {
    let left = error.retry_after.filter(|_| error.refuses_login)?;
    Some(full_second(now.checked_add(left).unwrap_or(now)))
}

/// The status entry for a refused login.
pub(super) fn noted(until: Timestamp, of: &Origin) -> RefusedLogin {
    let (generation, secrets) = of.observed_versions();
    RefusedLogin { until: Time(until), generation, secrets }
}

/// How much longer this login must not be tried; `None` if it differs from the refused one.
pub(super) fn pause(refused: &RefusedLogin, of: &Origin, now: Timestamp) -> Option<Duration> {
    let RefusedLogin { until, generation, secrets } = refused;
    if of.observed_versions() != (*generation, secrets.clone()) {
        return None;
    }
    let left: Duration = until.0.duration_since(now).try_into().ok()?;
    // The clock may have been set back.
    Some(left.min(LOGIN_PAUSE)).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backend::ErrorClass;

    fn origin(generation: i64) -> Origin {
        Origin { provider: ("uid".to_owned(), generation), ..Origin::default() }
    }

    fn minute(minutes: i64) -> Timestamp {
        Timestamp::from_second(60 * minutes).unwrap()
    }

    #[rstest]
    #[case::soon(98, 1, Some(2))]
    #[case::now(100, 1, None)]
    #[case::over(120, 1, None)]
    #[case::the_clock_was_set_back(1, 1, Some(30))]
    #[case::another_login(98, 2, None)]
    fn a_refused_login_waits_for_its_time(
        #[case] now: i64,
        #[case] generation: i64,
        #[case] left: Option<u64>,
    ) {
        let refused = noted(minute(100), &origin(1));
        let pause = pause(&refused, &origin(generation), minute(now));
        assert_eq!(pause, left.map(|minutes| Duration::from_secs(60 * minutes)));
    }

    #[test]
    fn a_failure_that_is_told_again_is_about_the_same_time() {
        let error = BackendError::new(ErrorClass::Forbidden, "no");
        assert_eq!(until(&error, minute(100)), None, "it is not about the login");
        let refused = |left: u64| {
            let retry_after = Some(Duration::from_secs(60 * left));
            BackendError { refuses_login: true, retry_after, ..error.clone() }
        };
        assert_eq!(until(&refused(20), minute(100)), Some(minute(120)));
        assert_eq!(until(&refused(12), minute(108)), Some(minute(120)));
    }
}
