//! Repairs of a Secret that another writer, or the user, changed.

use rstest::rstest;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A ServiceKey whose Secret has this flaw.
fn flawed(flaw: Flaw) -> Observed {
    let key = key("now");
    Observed {
        secret: SecretView::Intact { key: key.clone(), previous: None, flaw: Some(flaw) },
        ..holding(key)
    }
}

/// A ServiceKey whose Secret lost its entries.
fn damaged() -> Observed {
    let key = key("now");
    Observed { secret: SecretView::Damaged { key: Some(key.clone()), previous: None }, ..holding(key) }
}

/// A ServiceKey whose Secret lost its entries right after this reconcile had replaced the key and revoked an older one.
fn just_replaced() -> Observed {
    let mut observed = damaged();
    let next = Sequence::FIRST.next();
    observed.secret =
        SecretView::Damaged { key: Some(KeyRecord { sequence: next, ..key("now") }), previous: None };
    observed.recorded.operation = Some(Operation::bind(next));
    observed.run.revoked.insert(Sequence::FIRST, now());
    (observed.run.unreadable, observed.run.rehearsed) = (Some(Sequence::FIRST), true);
    observed.run.absent.insert(Sequence::FIRST);
    observed
}

/// Neither a fetch nor a repeated bind has returned the credentials of the first key.
fn hide(observed: &mut Observed) {
    (observed.run.unreadable, observed.run.unrepeatable) = (Some(Sequence::FIRST), Some(Sequence::FIRST));
}

fn act(observed: &Observed) -> Step {
    let step = decide(observed);
    assert!(!matches!(step, Step::Wait(_)), "{step:?}");
    step
}

#[test]
fn metadata_is_restored_without_the_remote_side() {
    let observed = flawed(Flaw::Edited);
    assert_eq!(act(&observed), Step::Apply(KubernetesEffect::RestoreSecret));
    let down = Problem { reason: Reason::ProviderNotFound, message: String::new() };
    assert_eq!(
        act(&Observed { provider: ProviderView::Unavailable(down), ..observed }),
        Step::Apply(KubernetesEffect::RestoreSecret)
    );
}

#[test]
fn other_templates_need_the_credentials_again() {
    let mut observed = flawed(Flaw::Outdated);
    assert_eq!(act(&observed), Step::Execute(RemoteEffect::Fetch(Sequence::FIRST)));
    observed.run.in_hand = Some(key("now"));
    assert_eq!(
        act(&observed),
        Step::Apply(KubernetesEffect::WriteSecret { key: Box::new(key("now")), previous: None })
    );
}

/// A repeated bind creates no second key if the key's id is derived and its inputs have not changed.
#[rstest]
#[case::other_templates(flawed(Flaw::Outdated))]
#[case::lost_entries(damaged())]
fn credentials_that_a_fetch_does_not_show_come_with_a_repeated_bind(#[case] mut observed: Observed) {
    assert_eq!(act(&observed), Step::Execute(RemoteEffect::Fetch(Sequence::FIRST)));
    observed.run.unreadable = Some(Sequence::FIRST);
    assert_eq!(act(&observed), Step::Apply(KubernetesEffect::RehearseSecret), "it may create the key again");
    observed.run.rehearsed = true;
    assert_eq!(act(&observed), Step::Execute(RemoteEffect::Repeat(Sequence::FIRST)));
    assert_ne!(
        act(&Observed { marks_keys: true, ..observed.clone() }),
        Step::Execute(RemoteEffect::Repeat(Sequence::FIRST))
    );
    observed.desired.inputs = "others".into();
    assert_ne!(act(&observed), Step::Execute(RemoteEffect::Repeat(Sequence::FIRST)));
}

/// The user changes the fields while the credentials are being read. They are stored before the next call.
#[test]
fn credentials_in_hand_are_stored_although_the_next_key_is_due() {
    let mut observed = flawed(Flaw::Outdated);
    (observed.run.unreadable, observed.run.in_hand) = (Some(Sequence::FIRST), Some(key("now")));
    observed.desired.inputs = "others".into();
    assert_eq!(
        act(&observed),
        Step::Apply(KubernetesEffect::WriteSecret { key: Box::new(key("now")), previous: None })
    );
}

/// The next key is created by a regular rotation. It is recorded first, while the Secret keeps the credentials that
/// work.
#[test]
fn credentials_that_are_not_shown_again_for_other_templates_are_replaced_in_order() {
    let mut observed = flawed(Flaw::Outdated);
    hide(&mut observed);
    assert_eq!(
        act(&observed),
        Step::Apply(KubernetesEffect::RehearseSecret),
        "no key is created for a Secret that can't be written"
    );
    observed.run.rehearsed = true;
    let Step::Apply(KubernetesEffect::Record(report)) = act(&observed) else { panic!("nothing is recorded") };
    let next = Sequence::FIRST.next();
    assert_eq!((report.recorded.attempt(), report.ready.ready), (Some(next), true));
    // A process that knows only the stored state continues with the next key.
    let observed = Observed { recorded: report.recorded, run: RunState::default(), ..observed };
    assert_eq!(
        act(&observed),
        Step::Execute(RemoteEffect::Bind { sequence: next, predecessor: Some(Sequence::FIRST) })
    );
}

#[rstest]
#[case::metadata(flawed(Flaw::Edited), true)]
#[case::templates(flawed(Flaw::Outdated), true)]
#[case::entries(damaged(), false)]
#[case::entries_of_a_key_that_was_just_created(just_replaced(), false)]
fn a_secret_that_was_just_repaired_waits(#[case] observed: Observed, #[case] ready: bool) {
    let observed = Observed { repair_from: Some(at(8)), ..observed };
    let rest = rest(&observed);
    assert_eq!((rest.requeue, rest.report.ready.ready), (Requeue::At(at(8)), ready));
    let told = rest.report.rotating.map_or(rest.report.ready.reason, |problem| problem.reason);
    assert_eq!(told, Reason::SecretContested);
    assert!(matches!(decide(&Observed { now: at(8), ..observed }), Step::Apply(_) | Step::Execute(_)));
}

#[rstest]
#[case::named(
    Some("`flux` for `data[extra]`"),
    ": `metadata.managedFields` names `flux` for `data[extra]`; stop that writer"
)]
#[case::unnamed(
    None,
    "look in the API server's audit log for a writer that removes fields or writes as `servicekey-operator`, and stop it"
)]
fn the_other_writer_is_named_where_the_api_server_names_it(
    #[case] writers: Option<&str>,
    #[case] words: &str,
) {
    for observed in [damaged(), flawed(Flaw::Edited)] {
        let other_writers = writers.map(str::to_owned);
        let report = rest(&Observed { repair_from: Some(at(8)), other_writers, ..observed }).report;
        let told = report.rotating.map_or(report.ready.message, |problem| problem.message);
        assert!(told.ends_with(words), "{told}");
    }
}

/// A rotation that has begun is completed, even if the Secret is edited meanwhile.
#[test]
fn credentials_in_hand_are_stored_at_once() {
    let mut observed = Observed { repair_from: Some(at(8)), ..damaged() };
    observed.run.in_hand = Some(key("now"));
    assert_eq!(
        act(&observed),
        Step::Apply(KubernetesEffect::WriteSecret { key: Box::new(key("now")), previous: None })
    );
}

/// There are never more keys than the next one, the current one and the one before it. Keys in between may be gone.
#[rstest]
#[case::all_exist(&[1, 2])]
#[case::the_second_is_gone(&[1])]
fn a_lost_key_is_replaced_after_the_oldest_one_is_revoked(#[case] replaced: &[u32]) {
    let mut observed = damaged();
    let [first, third] = [1, 3].map(|number| Sequence::new(number).unwrap());
    let current = KeyRecord { sequence: third, ..key("now") };
    observed.recorded.key = Some(current.clone());
    for number in replaced {
        observed.recorded.replace(Sequence::new(*number).unwrap(), None, None, now(), HOUR);
    }
    observed.secret = SecretView::Damaged { key: Some(current), previous: None };
    (observed.run.unreadable, observed.run.unrepeatable) = (Some(third), Some(third));
    observed.run.rehearsed = true;
    assert_eq!(act(&observed), Step::Execute(RemoteEffect::Unbind(first)));
    observed.run.revoked.insert(first, now());
    let Step::Apply(KubernetesEffect::Record(report)) = act(&observed) else { panic!("nothing is recorded") };
    let left: Vec<_> = report.recorded.previous.iter().map(|key| key.sequence.number()).collect();
    assert_eq!(left, replaced[1..]);
    let observed = Observed { recorded: report.recorded, ..observed };
    assert!(
        matches!(act(&observed), Step::Apply(KubernetesEffect::Record(_))),
        "the next key is written down before it is created"
    );
}

/// The key is revoked before the next one is created, so that two never exist.
fn assert_replaced_without_reading(mut observed: Observed) {
    let next = Sequence::FIRST.next();
    assert_eq!(act(&observed), Step::Apply(KubernetesEffect::RehearseSecret));
    observed.run.rehearsed = true;
    let Step::Apply(KubernetesEffect::Record(report)) = act(&observed) else { panic!("nothing is recorded") };
    assert_eq!(report.recorded.attempt(), Some(next));
    observed.recorded = report.recorded;
    assert_eq!(act(&observed), Step::Execute(RemoteEffect::Unbind(Sequence::FIRST)));
    observed.run.revoked.insert(Sequence::FIRST, now());
    let Step::Apply(KubernetesEffect::Record(report)) = act(&observed) else { panic!("nothing is recorded") };
    assert_eq!(report.ready.reason, Reason::Rotating);
    // A process that knows only the stored state continues with the next key.
    observed = Observed { recorded: report.recorded, run: RunState::default(), ..observed };
    let bind = std::iter::repeat_with(|| match act(&observed) {
        Step::Apply(KubernetesEffect::RehearseSecret) => {
            observed.run.rehearsed = true;
            None
        }
        Step::Apply(KubernetesEffect::Record(report)) => {
            observed.recorded = report.recorded;
            None
        }
        effect => Some(effect),
    });
    assert_eq!(
        bind.take(5).find_map(|effect| effect),
        Some(Step::Execute(RemoteEffect::Bind { sequence: next, predecessor: None }))
    );
}

/// The remote side may never return the credentials.
#[test]
fn a_requested_rotation_replaces_a_key_without_reading_it() {
    let mut observed = damaged();
    observed.desired.inputs = Inputs::new("now".to_owned(), None, Some("again".to_owned()), []);
    let mut replaces = observed.clone();
    replaces.desired.rotation.revokes_first = true;
    assert_replaced_without_reading(replaces);
    assert_eq!(act(&observed), Step::Apply(KubernetesEffect::RehearseSecret));
    observed.run.rehearsed = true;
    let Step::Apply(KubernetesEffect::Record(report)) = act(&observed) else { panic!("nothing is recorded") };
    let (next, predecessor) = (Sequence::FIRST.next(), Some(Sequence::FIRST));
    assert_eq!(report.recorded.attempt(), Some(next));
    assert_eq!(
        act(&Observed { recorded: report.recorded, ..observed }),
        Step::Execute(RemoteEffect::Bind { sequence: next, predecessor })
    );
}

/// No watch reports when the remote side returns usable credentials. A template changes with the spec, which is
/// watched.
#[rstest]
#[case::by_the_remote_side(Attempted::Provision, None, Some(6 * 3600))]
#[case::by_one_that_wants_to_be_left_alone_for_longer(Attempted::Provision, Some(10 * HOUR), Some(10 * 3600))]
#[case::by_the_template(Attempted::Render, None, None)]
fn a_key_without_usable_credentials_is_created_again_after_hours(
    #[case] attempted: Attempted,
    #[case] retry_after: Option<Duration>,
    #[case] seconds: Option<i64>,
) {
    let failure = Failure { attempted, class: ErrorClass::Unusable, message: String::new(), retry_after };
    let mut observed = asking();
    observed.run.unusable = Some(Unusable { sequence: Sequence::FIRST, failure, revoked: Some(now()) });
    let wake = seconds.map_or(Requeue::OnChange, |seconds| Requeue::At(at(seconds)));
    assert_eq!(rest(&observed).requeue, wake);
    let Some(seconds) = seconds else { return };
    assert!(matches!(decide(&Observed { now: at(seconds - 1), ..observed.clone() }), Step::Wait(_)));
    let bind = Step::Execute(RemoteEffect::Bind { sequence: Sequence::FIRST, predecessor: None });
    assert_eq!(act(&Observed { now: at(seconds), ..observed }), bind);
}

/// The repeated bind of a key that was replaced since may still take effect. Its revocation waits, and so does the next
/// check.
#[test]
fn a_key_whose_repeated_bind_may_take_effect_is_revoked_after_that() {
    let next = KeyRecord { sequence: Sequence::FIRST.next(), ..key("now") };
    let mut observed = holding(key("now"));
    observed.run.given_up = Some((Sequence::FIRST, now()));
    observed.recorded = observed.recorded.advanced_to(&next, &observed);
    observed.secret = SecretView::Intact { key: next, previous: None, flaw: None };
    assert_eq!(observed.recorded.previous[0].late_until, Some(at(60)), "the next process knows");
    (observed.recorded.previous[0].revoke_at, observed.recorded.previous[0].late_until) = (Some(now()), None);
    let Step::Wait(rest) = decide(&observed) else { panic!("it is revoked too early") };
    assert_eq!(rest.requeue, Requeue::At(at(60)));
}

/// Another user deletes each Secret at once. The key is recorded, so that it no longer counts as a first key.
#[test]
fn a_secret_that_goes_as_soon_as_it_is_stored_is_a_lost_one() {
    let mut observed = Observed { secret: SecretView::Unknown, ..asking() };
    observed.run.stored = Some(key("now"));
    assert_eq!(
        act(&observed),
        Step::Apply(KubernetesEffect::LookUpSecret),
        "a watch that begins again knows of no Secret for a moment"
    );
    observed.secret = SecretView::Absent;
    let Step::Apply(KubernetesEffect::Record(report)) = act(&observed) else { panic!("nothing is recorded") };
    assert_eq!(report.recorded.key, Some(key("now")));
    assert_eq!((report.ready.ready, report.ready.reason), (false, Reason::SecretContested));
    observed = Observed { recorded: report.recorded, repair_from: Some(at(5)), ..observed };
    assert_eq!(rest(&observed).requeue, Requeue::At(at(5)));
}
