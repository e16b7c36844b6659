//! Deletion of a ServiceKey for which no key ever existed.

use rstest::rstest;

use super::*;

fn deleted(all_refused: bool, observed: Observed) -> Observed {
    Observed { all_refused, desired: Desired { deleting: true, ..observed.desired }, ..observed }
}

fn refuse_to_revoke(observed: &mut Observed, class: ErrorClass) {
    let message = "unbind failed".to_owned();
    observed.run.failure = Some(Failure { attempted: Attempted::Revoke, class, message, retry_after: None });
}

/// A broker may have created a key although it refused the request, so the operator tries one revocation.
#[rstest]
#[case::all_was_refused(true, ErrorClass::Rejected, true)]
#[case::there_is_no_instance(true, ErrorClass::Gone, true)]
#[case::the_revocation_may_yet_work(true, ErrorClass::Transient, false)]
#[case::the_login_is_refused(true, ErrorClass::Forbidden, false)]
#[case::a_bind_may_have_had_an_effect(false, ErrorClass::Rejected, false)]
fn a_refused_revocation_ends_what_never_began(
    #[case] all_refused: bool,
    #[case] class: ErrorClass,
    #[case] ends: bool,
) {
    let mut observed = deleted(all_refused, Observed { secret: SecretView::Unknown, ..asking() });
    assert_eq!(decide(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    refuse_to_revoke(&mut observed, class);
    assert_eq!(
        decide(&observed) == Step::Apply(KubernetesEffect::LookUpSecret),
        ends,
        "{:?}",
        decide(&observed)
    );
}

#[test]
fn a_key_that_is_known_is_revoked_whatever_was_refused() {
    let mut observed = deleted(true, holding(key("now")));
    refuse_to_revoke(&mut observed, ErrorClass::Rejected);
    assert_eq!(rest(&observed).report.ready.reason, Reason::RevokeFailed);
}
