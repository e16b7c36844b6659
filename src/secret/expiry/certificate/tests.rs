use std::time::Duration;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints as Constraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd,
};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// A certificate in PEM with its private key.
struct Identity {
    certificate: String,
    key: String,
}

/// A certificate that ends on the first day of this year.
fn identity(ends: i32, key: &KeyPair, is_authority: bool) -> Identity {
    let mut params = CertificateParams::new(["client".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(ends, 1, 1);
    if is_authority {
        params.is_ca = IsCa::Ca(Constraints::Unconstrained);
    }
    Identity { certificate: params.self_signed(key).unwrap().pem(), key: key.serialize_pem() }
}

fn client(ends: i32) -> Identity {
    identity(ends, &KeyPair::generate().unwrap(), false)
}

fn authority(ends: i32) -> String {
    identity(ends, &KeyPair::generate().unwrap(), true).certificate
}

/// The years of the ends that were found, with their pointers. A certificate that can't be read has the year 0.
fn found(credentials: &Value) -> Vec<(i16, String)> {
    let year = |end: CredentialEnd| {
        let ExpirySource::Certificate(pointer) = end.source else { panic!("{:?}", end.source) };
        (end.at.map_or(0, |at| at.to_zoned(jiff::tz::TimeZone::UTC).year()), pointer)
    };
    ends(credentials.as_object().unwrap()).into_iter().map(year).collect()
}

#[rstest]
#[case::p256(&PKCS_ECDSA_P256_SHA256)]
#[case::p384(&PKCS_ECDSA_P384_SHA384)]
#[case::ed25519(&PKCS_ED25519)]
fn a_certificate_counts_if_its_private_key_is_there(#[case] algorithm: &'static rcgen::SignatureAlgorithm) {
    let pair = || KeyPair::generate_for(algorithm).unwrap();
    let Identity { certificate, key } = identity(2031, &pair(), false);
    let other = pair().serialize_pem();
    let expected = vec![(2031, "/tls.crt".to_owned())];
    assert_eq!(found(&json!({"tls.crt": certificate, "tls.key": key})), expected);
    assert_eq!(found(&json!({"tls.crt": certificate, "tls.key": other})), []);
    assert_eq!(found(&json!({"tls.crt": certificate, "password": "hunter2"})), []);
}

/// The test keys of `rcgen` are in PKCS#8; services also write the older formats.
#[rstest]
#[case::rsa_pkcs1(include_str!("rsa.crt"), include_str!("rsa-pkcs1.key"))]
#[case::rsa_pkcs8(include_str!("rsa.crt"), include_str!("rsa-pkcs8.key"))]
#[case::ec_sec1(include_str!("ec.crt"), include_str!("ec-sec1.key"))]
fn private_keys_of_other_formats_are_read(#[case] certificate: &str, #[case] key: &str) {
    assert_eq!(found(&json!({"cert": certificate, "key": key})).len(), 1);
    let other = client(2031);
    assert_eq!(found(&json!({"cert": other.certificate, "key": key})), []);
}

#[test]
fn authorities_do_not_count() {
    let Identity { certificate, key } = client(2031);
    let chain = format!("{certificate}{}{}", authority(2020), authority(2040));
    let credentials = json!({"ca": authority(2020), "tls": {"chain": chain, "key": key}});
    assert_eq!(found(&credentials), [(2031, "/tls/chain".to_owned())]);
    let pair = KeyPair::generate().unwrap();
    let own = identity(2020, &pair, true);
    assert_eq!(found(&json!({"ca": own.certificate, "key": own.key})), [], "also not with its private key");
}

/// RFC 5280 has this time for a certificate without an end.
#[test]
fn a_certificate_without_an_end_does_not_count() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["client".to_owned()]).unwrap();
    params.not_after = date_time_ymd(9999, 12, 31) + Duration::from_secs(24 * 3600 - 1);
    let certificate = params.self_signed(&key).unwrap().pem();
    assert_eq!(found(&json!({"cert": certificate, "key": key.serialize_pem()})), []);
}

#[test]
fn every_certificate_of_the_consumer_counts() {
    let (first, second) = (client(2031), client(2027));
    let credentials = json!({
        "list": [{"cert": first.certificate, "key": first.key}],
        "a/b": format!("{}{}", second.key, second.certificate),
    });
    assert_eq!(found(&credentials), [(2027, "/a~1b".to_owned()), (2031, "/list/0/cert".to_owned())]);
}

#[rstest]
#[case::with_spaces_around(|pem: &str| format!("\n {pem} \n"))]
#[case::with_carriage_returns(|pem: &str| pem.replace('\n', "\r\n"))]
#[case::with_escaped_breaks(|pem: &str| pem.replace('\n', "\\n"))]
#[case::with_words_before(|pem: &str| format!("Bag Attributes\n{pem}"))]
#[case::in_base64(|pem: &str| STANDARD.encode(pem))]
#[case::in_base64_of_several_lines(|pem: &str| {
    let text = STANDARD.encode(pem);
    text.as_bytes().chunks(64).map(|line| format!("{}\n", str::from_utf8(line).unwrap())).collect()
})]
fn certificates_are_found_in_each_form(#[case] write: fn(&str) -> String) {
    let Identity { certificate, key } = client(2031);
    let credentials = json!({"cert": write(&certificate), "key": write(&key)});
    assert_eq!(found(&credentials), [(2031, "/cert".to_owned())]);
}

/// It is safer to replace a key too early than too late.
#[rstest]
#[case::encrypted("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n")]
#[case::encrypted_in_pkcs1(
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMAA=\n-----END RSA PRIVATE KEY-----\n"
)]
#[case::damaged("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n")]
fn an_unknown_private_key_may_be_that_of_the_certificate(#[case] key: &str) {
    let certificate = client(2031).certificate;
    assert_eq!(found(&json!({"cert": certificate, "key": key})), [(2031, "/cert".to_owned())]);
    let together = format!("{key}{certificate}");
    assert_eq!(found(&json!({"both": together})), [(2031, "/both".to_owned())]);
    let damaged = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert_eq!(found(&json!({"cert": damaged, "key": key})), [(0, "/cert".to_owned())]);
}

#[test]
fn a_certificate_that_can_not_be_read_is_reported_if_there_is_a_private_key() {
    let damaged = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert_eq!(found(&json!({"cert": damaged})), []);
    assert_eq!(found(&json!({"cert": damaged, "key": client(2031).key})), [(0, "/cert".to_owned())]);
}

#[test]
fn a_limited_number_of_private_keys_is_decoded() {
    let Identity { certificate, key } = client(2031);
    let many = key.repeat(MOST_KEYS + 1);
    let other = client(2032).certificate;
    assert_eq!(found(&json!({"cert": other, "key": key.repeat(MOST_KEYS)})), []);
    assert_eq!(
        found(&json!({"cert": other, "key": many})).len(),
        1,
        "the last one may be that of any certificate"
    );
    assert_eq!(found(&json!({"cert": certificate, "key": many})).len(), 1);
}

#[test]
fn a_pointer_is_short_and_printable() {
    let Identity { certificate, key } = client(2031);
    let name = format!("a\u{7}{}", "ä".repeat(1000));
    let [(_, pointer)] = &found(&json!({name: certificate, "key": key}))[..] else { panic!("not one") };
    assert!(pointer.starts_with("/aä") && pointer.len() <= super::super::LONGEST_POINTER, "{pointer}");
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(
        label in prop_oneof![Just("CERTIFICATE"), Just("PRIVATE KEY"), Just("RSA PRIVATE KEY")],
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        text in ".*",
    ) {
        let body = STANDARD.encode(&bytes);
        let credentials = json!({
            "a": format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"),
            "b": format!("-----BEGIN {label}-----\n{text}"),
            "c": format!("{ENCODED_BEGIN}{text}"),
            "d": client(2031).key,
        });
        let _ = ends(credentials.as_object().unwrap());
    }

    /// One byte of a certificate is changed.
    #[test]
    fn a_damaged_certificate_is_read_without_a_panic(place: prop::sample::Index, byte: u8) {
        let der = CertificateParams::new(["client".to_owned()]).unwrap();
        let der = der.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut der = der.der().to_vec();
        let place = place.index(der.len());
        der[place] = byte;
        let _ = certificate(&der);
    }
}
