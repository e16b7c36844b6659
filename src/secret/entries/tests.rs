use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\r\n+/=\n-----END CERTIFICATE-----\n";

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => panic!("not an object"),
    }
}

fn parsed(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap()
}

#[rstest]
#[case::string(r#""plain""#, "plain")]
#[case::empty_string(r#""""#, "")]
#[case::nul_and_unicode(r#""\u0000ü🔑""#, "\0ü🔑")]
#[case::looks_like_json(r#""{\"a\": 1}""#, r#"{"a": 1}"#)]
#[case::port("5432", "5432")]
#[case::negative("-1", "-1")]
#[case::largest("18446744073709551615", "18446744073709551615")]
#[case::smallest("-9223372036854775808", "-9223372036854775808")]
#[case::float("1.0", "1.0")]
#[case::fraction("0.1", "0.1")]
#[case::exponent("1e3", "1000.0")]
#[case::boolean("true", "true")]
#[case::array(r#"[1, "a", null]"#, r#"[1,"a",null]"#)]
#[case::object_sorted(r#"{"b": {"d": 1}, "a": []}"#, r#"{"a":[],"b":{"d":1}}"#)]
fn a_credential_becomes_text(#[case] json: &str, #[case] expected: &str) {
    let entries = Entries::from_credentials(&parsed(&format!(r#"{{"it": {json}}}"#))).unwrap();
    assert_eq!(entries.expose("it").unwrap(), expected.as_bytes());
}

#[test]
fn a_pem_keeps_its_newlines() {
    let entries = Entries::from_credentials(&object(json!({"ca.pem": PEM}))).unwrap();
    assert_eq!(entries.expose("ca.pem").unwrap(), PEM.as_bytes());
}

#[test]
fn a_null_is_left_out() {
    let entries = Entries::from_credentials(&object(json!({"a": null, "b": ""}))).unwrap();
    assert_eq!(entries.names().collect::<Vec<_>>(), ["b"]);
}

#[rstest]
#[case::none(json!({}))]
#[case::only_nulls(json!({"a": null}))]
fn no_credentials_are_an_error(#[case] credentials: Value) {
    assert_eq!(Entries::from_credentials(&object(credentials)), Err(RenderError::NoCredentials));
}

#[rstest]
#[case::integer("18446744073709551616")]
#[case::below("-9223372036854775809")]
#[case::huge("1e300")]
#[case::nested(r#"{"a": [123456789012345678901234567890]}"#)]
fn a_number_that_lost_digits_is_an_error(#[case] json: &str) {
    let error = Entries::from_credentials(&parsed(&format!(r#"{{"it": {json}}}"#))).unwrap_err();
    assert_eq!(error, RenderError::InexactNumber { name: "it".into() });
}

#[test]
fn a_collision_names_both() {
    let error = Entries::from_credentials(&object(json!({"a/b": 1, "a b": 2}))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the credentials `a b` and `a/b` would both become the entry `a_b`; \
         name them differently with `spec.secret.template.data`"
    );
}

#[test]
fn a_null_collides_with_nothing() {
    assert!(Entries::from_credentials(&object(json!({"a/b": 1, "a b": null}))).is_ok());
}

#[rstest]
#[case::most_that_fits(MAX_SIZE, true)]
#[case::one_more(MAX_SIZE + 1, false)]
#[case::two_mebibytes(2 * MAX_SIZE, false)]
fn the_size_is_limited(#[case] size: usize, #[case] fits: bool) {
    let half = "x".repeat(size / 2);
    let rest = "x".repeat(size - size / 2);
    let outcome = Entries::from_credentials(&object(json!({"a": half, "b": rest})));
    match outcome {
        Ok(_) => assert!(fits),
        Err(error) => assert_eq!((error, fits), (RenderError::TooLarge { size }, false)),
    }
}

#[test]
fn debug_shows_names_only() {
    let entries = Entries::from_credentials(&object(json!({"password": "hunter2", "port": 4711}))).unwrap();
    assert_eq!(format!("{entries:?}"), r#"Entries{"password", "port"}"#);
}

#[test]
fn the_digest_is_the_same_in_every_release() {
    let entries = Entries::from_credentials(&object(json!({"a": "b"}))).unwrap();
    assert_eq!(entries.digest(&Uuid::nil()), "4421d7010a781a9abd02a0ac79dce5fd");
}

pub(in crate::secret) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

pub(in crate::secret) fn any_credentials() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[a-c./ ü]{0,4}", any_json(), 0..6).prop_map(|map| map.into_iter().collect())
}

fn any_entries() -> impl Strategy<Value = Entries> {
    let value = prop::collection::vec(any::<u8>(), 0..3);
    prop::collection::btree_map("[ab]{1,3}", value, 0..4).prop_map(Entries)
}

proptest! {
    #[test]
    fn credentials_become_valid_names_or_an_error(credentials in any_credentials()) {
        if let Ok(entries) = Entries::from_credentials(&credentials) {
            prop_assert!(entries.names().all(entry_name::is_valid));
            let given = credentials.values().filter(|value| !value.is_null()).count();
            prop_assert_eq!(entries.names().count(), given);
        }
    }

    #[test]
    fn the_same_credentials_become_the_same_entries(credentials in any_credentials()) {
        prop_assert_eq!(Entries::from_credentials(&credentials), Entries::from_credentials(&credentials.clone()));
    }

    #[test]
    fn digests_agree_exactly_when_entries_do(one in any_entries(), other in any_entries()) {
        let salt = Uuid::nil();
        prop_assert_eq!(one == other, one.digest(&salt) == other.digest(&salt));
        prop_assert_ne!(one.digest(&salt), one.digest(&Uuid::max()));
    }

    #[test]
    fn what_is_written_reads_back(entries in any_entries()) {
        let secret = Secret { data: Some(entries.to_data()), ..Secret::default() };
        prop_assert_eq!(Entries::from_secret(&secret), entries);
    }
}
