use jiff::Timestamp;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

pub(in crate::secret) fn marks() -> Marks {
    let key = KeyRecord {
        sequence: Sequence::FIRST,
        id: Some("b04965e6-a9bb-591f-8f8a-1adcb2c8dc39".into()),
        name: Some("monitoring-creds".into()),
        role: Some("crn:v1:bluemix:public:iam::::serviceRole:Reader".into()),
        created_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        created_by: Some("IBMid-somebody".into()),
        lifetime: Lifetime {
            expires: Some(Expiry {
                at: "2026-02-02T03:04:05.5Z".parse().unwrap(),
                source: ExpirySource::Certificate("/tls.crt".into()),
            }),
            ..Lifetime::default()
        },
        late_until: None,
        inputs: "i".into(),
        plan_ids: None,
        same_credentials: false,
    };
    let imprint = Imprint {
        layout: "l".into(),
        content: "c".into(),
        rendering: Some("r".into()),
        entries: Some(BTreeSet::from(["password".to_owned(), "username".to_owned()])),
        credentials: Some("d".into()),
    };
    Marks { key, previous: None, former: None, imprint }
}

/// These marks, as the operator reads them from a Secret.
pub(in crate::secret) fn claimed(marks: Marks) -> Marks<Claim> {
    let Marks { key, previous, former, imprint } = marks;
    Marks { key: key.into(), previous, former, imprint }
}

/// Ids and names are for people, and any writer may change them.
#[rstest]
#[case(KEY_ID)]
#[case(KEY_NAME)]
fn what_is_for_people_is_not_read_back(#[case] key: &str) {
    let mut annotations = written(&marks());
    annotations.insert(key.to_owned(), "theirs".to_owned());
    assert_eq!(read(&meta(annotations)), Some(claimed(marks())));
}

#[rstest]
#[case(ROLE)]
#[case(CREATED_BY)]
fn a_name_without_end_is_left_out(#[case] key: &str) {
    let mut annotations = written(&marks());
    annotations.insert(key.to_owned(), "x".repeat(LONGEST_NAME + 1));
    let key = read(&meta(annotations)).unwrap().key;
    assert_eq!([&key.role, &key.created_by].into_iter().flatten().count(), 1);
}

fn written(marks: &Marks) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    marks.write(&mut annotations);
    annotations
}

fn meta(annotations: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() }
}

#[test]
fn marks_are_written_as_annotations() {
    let expected = [
        ("servicekeys.dev/content", "c"),
        ("servicekeys.dev/created-at", "2026-01-02T03:04:05Z"),
        ("servicekeys.dev/created-by", "IBMid-somebody"),
        ("servicekeys.dev/credentials", "d"),
        ("servicekeys.dev/entries", "password,username,"),
        ("servicekeys.dev/expires-at", "2026-02-02T03:04:05.5Z"),
        ("servicekeys.dev/expires-from", "certificate /tls.crt"),
        ("servicekeys.dev/inputs", "i"),
        ("servicekeys.dev/key-id", "b04965e6-a9bb-591f-8f8a-1adcb2c8dc39"),
        ("servicekeys.dev/key-name", "monitoring-creds"),
        ("servicekeys.dev/layout", "l"),
        ("servicekeys.dev/rendering", "r"),
        ("servicekeys.dev/role", "crn:v1:bluemix:public:iam::::serviceRole:Reader"),
        ("servicekeys.dev/sequence", "1"),
    ];
    let written = written(&marks());
    assert_eq!(written.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
}

#[test]
fn a_digest_of_credentials_tells_them_apart_and_two_owners_as_well() {
    let digest = |text: &str, salt: u128| {
        let credentials = serde_json::from_str::<Map<String, Value>>(text).unwrap();
        digest_of(&credentials, &Uuid::from_u128(salt))
    };
    let known = digest(r#"{"user": "a", "list": [1, {"x": 2, "y": 3}]}"#, 1);
    assert_eq!(digest(r#"{"list": [1, {"y": 3, "x": 2}], "user": "a"}"#, 1), known, "order says nothing");
    for (text, salt) in [
        (r#"{"user": "a", "list": [1, {"x": 2, "y": 3}]}"#, 2),
        (r#"{"user": "b", "list": [1, {"x": 2, "y": 3}]}"#, 1),
        (r#"{"user": "a", "list": [{"x": 2, "y": 3}, 1]}"#, 1),
    ] {
        assert_ne!(digest(text, salt), known);
    }
}

#[test]
fn what_an_earlier_key_had_and_this_one_has_not_goes() {
    let mut annotations = written(&marks());
    annotations.insert("other".into(), "kept".into());
    let key =
        KeyRecord { lifetime: Lifetime::default(), name: None, role: None, created_by: None, ..marks().key };
    Marks { key, ..marks() }.write(&mut annotations);
    for gone in [EXPIRES_AT, EXPIRES_FROM, KEY_NAME, ROLE, CREATED_BY] {
        assert!(!annotations.contains_key(gone), "{gone}");
    }
    assert!(annotations.contains_key("other"));
}

#[rstest]
#[case(SEQUENCE)]
#[case(CREATED_AT)]
#[case(LAYOUT)]
#[case(INPUTS)]
#[case(CONTENT)]
fn without_a_mark_that_is_needed_there_are_none(#[case] key: &str) {
    let mut annotations = written(&marks());
    annotations.remove(key);
    assert_eq!(read(&meta(annotations)), None);
}

#[rstest]
#[case::zero(SEQUENCE, "0")]
#[case::negative(SEQUENCE, "-1")]
#[case::text(SEQUENCE, "one")]
#[case::too_large(SEQUENCE, "4294967296")]
#[case::no_time(CREATED_AT, "yesterday")]
#[case::no_zone(EXPIRES_AT, "2026-01-02T03:04:05")]
#[case::empty_time(RENEW_BEFORE, "")]
#[case::no_digest(CONTENT, "")]
#[case::no_end_of_a_digest(INPUTS, &"0".repeat(LONGEST_DIGEST + 1))]
fn damaged_marks_are_none(#[case] key: &str, #[case] value: &str) {
    let mut annotations = written(&marks());
    annotations.insert(key.to_owned(), value.to_owned());
    assert_eq!(read(&meta(annotations)), None);
}

#[test]
fn no_annotations_are_no_marks() {
    assert_eq!(read(&ObjectMeta::default()), None);
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    let seconds = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
    (seconds, 0..1_000_000_000_i32)
        .prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap_or(Timestamp::MAX))
}

fn any_expiry() -> impl Strategy<Value = Expiry> {
    let entry = || "(/[^\\p{C}]{0,9}){1,3}";
    let source = prop_oneof![
        Just(ExpirySource::RemoteSide),
        entry().prop_map(ExpirySource::Certificate),
        entry().prop_map(ExpirySource::Token),
    ];
    (any_time(), source).prop_map(|(at, source)| Expiry { at, source })
}

/// Any writer may change the mark.
#[rstest]
#[case::another_kind("password /a")]
#[case::no_entry("certificate")]
#[case::empty("")]
#[case::a_line_break("certificate /a\n/b")]
#[case::without_end(&format!("token /{}", "a".repeat(LONGEST_NAME)))]
fn an_unknown_source_of_an_expiry_counts_as_the_remote_side(#[case] text: &str) {
    let mut annotations = written(&marks());
    annotations.insert(EXPIRES_FROM.to_owned(), text.to_owned());
    let lifetime = &read(&meta(annotations)).unwrap().key.lifetime;
    assert_eq!(lifetime.expires.as_ref().unwrap().source, ExpirySource::RemoteSide);
}

prop_compose! {
    fn any_marks()(
        number in 1..=u32::MAX,
        id in prop::option::of(".{1,40}"),
        name in prop::option::of(".{0,40}"),
        role in prop::option::of(".{0,40}"),
        created_at in any_time(),
        created_by in prop::option::of(".{0,40}"),
        expires in prop::option::of(any_expiry()),
        renew_before in prop::option::of(any_time()),
        late_until in prop::option::of(any_time()),
        previous in prop::option::of((1..=u32::MAX).prop_map(|number| Sequence::new(number).unwrap())),
        layout in "[0-9a-f]{32}",
        inputs in "[0-9a-f]{32}",
        content in "[0-9a-f]{32}",
        rendering in prop::option::of("[0-9a-f]{32}"),
        entries in prop::option::of(prop::collection::btree_set("[-._a-zA-Z0-9]{1,9}", 1..9)),
        credentials in prop::option::of("[0-9a-f]{32}"),
        same_credentials in any::<bool>(),
        former in prop::option::of(any::<u128>().prop_map(Uuid::from_u128)),
    ) -> Marks {
        let sequence = Sequence::new(number).unwrap();
        let key = KeyRecord {
            sequence,
            id,
            name,
            role,
            created_at,
            created_by,
            lifetime: Lifetime { expires, ignored: None, renew_before },
            late_until,
            inputs: inputs.as_str().into(),
            plan_ids: None,
            same_credentials,
        };
        Marks {
            key,
            previous,
            former,
            imprint: Imprint { layout, content, rendering, entries, credentials },
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(marks in any_marks()) {
        prop_assert_eq!(read(&meta(written(&marks))), Some(claimed(marks)));
    }
}
