//! Failures that do not depend on the object. The operator repeats each request after a backoff, and the reconcile
//! continues.

use rstest::rstest;

use super::fixtures::*;

/// The kinds of requests that effects send.
#[derive(Clone, Copy, Debug)]
enum At {
    LookUp,
    Rehearsal,
    AddFinalizer,
    CreateSecret,
    ReadSecret,
    ReplaceSecret,
    Status,
    DeleteSecret,
    ReleaseSecret,
    RemoveFinalizer,
}

/// The requests of a reconcile before and after the one that fails.
struct Course {
    before: Vec<Expected>,
    request: Expected,
    after: Vec<Expected>,
    /// The earlier requests that the operator repeats after the failure.
    again: Vec<Expected>,
    outcome: &'static str,
}

impl At {
    async fn scene(self) -> Scene {
        let created = || service_key().finalized();
        let deleted = || service_key().finalized().with_key(1).deleting();
        match self {
            Self::Rehearsal | Self::AddFinalizer => scene(service_key()).await,
            Self::LookUp | Self::CreateSecret => scene(created()).await.holding_credentials(1),
            Self::ReadSecret | Self::ReplaceSecret => scene(created().with_key(1)).await.with_lost_label(1),
            Self::Status => scene(created().suspended()).await,
            Self::DeleteSecret => scene(deleted().retaining_key()).await.with_own_secret(1),
            Self::ReleaseSecret => scene(deleted().retaining_secret()).await.with_own_secret(1),
            Self::RemoveFinalizer => scene(deleted().retaining_key()).await,
        }
    }

    fn course(self) -> Course {
        let course = |before: Vec<Expected>, request, after| Course {
            again: before.clone(),
            before,
            request,
            after,
            outcome: "settled, awaits a change",
        };
        let stores = || vec![create_secret(), write_status()];
        let gone = |course: Course| Course { outcome: "gone, awaits a change", ..course };
        match self {
            Self::LookUp => course(vec![], look_up_secret(), stores()),
            Self::CreateSecret => course(vec![look_up_secret()], create_secret(), vec![write_status()]),
            Self::Rehearsal => course(vec![], rehearse_new_secret(), [vec![patch_key()], stores()].concat()),
            Self::AddFinalizer => course(vec![rehearse_new_secret()], patch_key(), stores()),
            Self::ReadSecret => {
                course(vec![], read_secret(), vec![read_secret(), replace_secret(), write_status()])
            }
            Self::ReplaceSecret => {
                course(vec![read_secret(), read_secret()], replace_secret(), vec![write_status()])
            }
            Self::Status => {
                Course { outcome: "waiting, awaits a change", ..course(vec![], write_status(), vec![]) }
            }
            Self::DeleteSecret => {
                let course = course(vec![read_secret()], delete_secret(), vec![patch_key()]);
                gone(Course { again: vec![], ..course })
            }
            Self::ReleaseSecret => {
                let course = course(vec![read_secret(), read_secret()], replace_secret(), vec![patch_key()]);
                gone(Course { again: vec![read_secret()], ..course })
            }
            Self::RemoveFinalizer => gone(course(vec![look_up_secret()], patch_key(), vec![])),
        }
    }
}

async fn is_retried(at: At, failure: Answer) {
    let mut scene = at.scene().await;
    let Course { before, request, after, again, outcome } = at.course();
    before.into_iter().for_each(|before| scene.expect(before, works()));
    scene.expect(request.clone(), failure);
    assert_eq!(scene.reconcile().await, "error, requeued");
    assert!(scene.broker.calls().is_empty(), "nothing follows the failure");

    // The rest of the test calls the broker, which needs the real clock.
    tokio::time::resume();
    again.into_iter().chain([request]).chain(after).for_each(|next| scene.expect(next, works()));
    assert_eq!(scene.reconcile().await, outcome);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn an_api_server_in_trouble_is_asked_again(
    #[values(
        At::LookUp,
        At::Rehearsal,
        At::AddFinalizer,
        At::CreateSecret,
        At::ReadSecret,
        At::ReplaceSecret,
        At::Status,
        At::DeleteSecret,
        At::ReleaseSecret,
        At::RemoveFinalizer
    )]
    at: At,
    #[values(closes(), hangs(), internal_error(), too_many_requests())] trouble: Answer,
) {
    is_retried(at, trouble).await;
}

/// The user must correct only a Secret that the API server refuses, so only such a Secret gets a condition.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_request_that_is_refused_is_repeated(
    #[values(
        At::LookUp,
        At::AddFinalizer,
        At::ReadSecret,
        At::Status,
        At::DeleteSecret,
        At::RemoveFinalizer
    )]
    at: At,
    #[values(forbidden("the operator lacks this permission"), invalid("no"))] refusal: Answer,
) {
    is_retried(at, refusal).await;
}
