//! Rules for all kinds of probes.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use rstest::rstest;
use tokio::io::AsyncWriteExt;

use super::{
    Encryption, NetworkProber, Probe, ProbeFailureClass as Class, Prober,
    test_server::{
        FixedNames, PASSWORD, closed_port, endless, fails, outcome, outcome_of, prober, serve, silent,
        wait_for_end,
    },
};
use crate::backend::{AddressRules, ApiServer, Names, RemoteShares};

const IMPATIENT: Duration = Duration::from_millis(200);

fn tcp(address: impl Into<String>) -> Probe {
    Probe::Tcp { address: address.into() }
}

/// One probe of each kind for this address. Those after the first expect an answer.
fn all(address: &str) -> [Probe; 7] {
    let tls = || Encryption::Tls { ca_bundle: None };
    let http = |url: String| Probe::Http {
        url: url.into(),
        headers: vec![("x-key".to_owned(), PASSWORD.into())],
        statuses: vec![],
        ca_bundle: None,
    };
    let postgres = |encryption| Probe::Postgres {
        address: address.to_owned(),
        user: "user".to_owned(),
        password: PASSWORD.into(),
        database: "database".to_owned(),
        encryption,
    };
    let redis = |encryption| Probe::Redis {
        address: address.to_owned(),
        user: None,
        password: PASSWORD.into(),
        encryption,
    };
    [
        tcp(address),
        Probe::Tls {
            address: address.to_owned(),
            server_name: None,
            ca_bundle: None,
            client_certificate: None,
        },
        http(format!("http://{PASSWORD}:{PASSWORD}@{address}/{PASSWORD}?key={PASSWORD}")),
        postgres(Encryption::Disabled),
        postgres(tls()),
        redis(Encryption::Disabled),
        redis(tls()),
    ]
}

/// Knows no name.
#[derive(Debug)]
struct NoNames;

impl Names for NoNames {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn with_names(networks: &[&str], addresses: &[&str]) -> (NetworkProber, Arc<FixedNames>) {
    let addresses = addresses.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect();
    let names = Arc::new(FixedNames { addresses, ..FixedNames::default() });
    (prober(networks).with_names(names.clone()), names)
}

#[tokio::test]
async fn an_open_port_passes_and_a_closed_one_fails() {
    assert_eq!(outcome(&tcp(silent().await.address())).await, Ok(()));
    for probe in all(&closed_port().await) {
        fails(&probe, Class::Unreachable, "is not reachable").await;
    }
}

#[rstest]
#[case::empty(&[])]
#[case::another_network(&["10.0.0.0/8"])]
#[case::another_namespace(&["namespace/training=127.0.0.0/8"])]
#[case::of_an_administrator(&["ClusterKeyProviders=127.0.0.0/8"])]
#[tokio::test]
async fn an_address_that_is_not_listed_opens_no_socket(#[case] networks: &[&str]) {
    let server = silent().await;
    let by_name = format!("db.example.com:{}", server.address.port());
    let (prober, _) = with_names(networks, &["127.0.0.1"]);
    for probe in all(&server.address()).iter().chain(&all(&by_name)) {
        let (class, message) = outcome_of(&prober, probe).await.unwrap_err();
        assert_eq!(class, Class::NotAdmitted);
        assert!(message.contains("that namespace `billing` may probe"), "{message}");
    }
    // The server accepts connections in their order, so it has accepted all others when it has accepted this one.
    outcome(&tcp(server.address())).await.unwrap();
    while server.connections() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.connections(), 1);
}

#[rstest]
#[case::loopback(&["127.0.0.0/8"], true)]
#[case::of_the_namespace(&["namespace/billing=127.0.0.0/8"], true)]
#[case::of_all_namespaces(&["KeyProviders=127.0.0.0/8"], true)]
#[case::none(&[], false)]
#[case::of_another_namespace(&["namespace/training=127.0.0.0/8"], false)]
#[tokio::test]
async fn has_networks_for_a_namespace(#[case] networks: &[&str], #[case] expected: bool) {
    let prober = prober(networks);
    assert_eq!(prober.has_networks("billing"), expected);
    let probe = tcp(silent().await.address());
    assert_eq!(outcome_of(&prober, &probe).await.is_ok(), expected);
}

#[rstest]
#[case::metadata_service("169.254.169.254", false)]
#[case::metadata_service_in_ipv6("[::ffff:169.254.169.254]", false)]
#[case::metadata_service_of_a_cloud("168.63.129.16", false)]
#[case::api_server("127.0.0.9", false)]
#[case::name_of_the_api_server("kubernetes.default.svc", false)]
#[case::denied("127.1.2.3", false)]
#[case::denied_in_ipv6("[::ffff:127.1.2.3]", false)]
#[case::other("127.0.0.1", true)]
#[tokio::test]
async fn a_large_network_does_not_admit(#[case] host: &str, #[case] is_admitted: bool) {
    let port = silent().await.address.port();
    let rules = AddressRules {
        deny: vec!["127.1.0.0/16".parse().unwrap()],
        api_server: ApiServer::at(
            ["kubernetes.default.svc".to_owned()],
            [format!("127.0.0.9:{port}").parse().unwrap()],
        ),
        ..AddressRules::default()
    };
    let networks = ["0.0.0.0/0", "::/0"].map(|network| network.parse().unwrap()).into();
    let names = FixedNames { addresses: vec!["127.0.0.1".parse().unwrap()], ..FixedNames::default() };
    let prober = NetworkProber::new(networks, &rules, RemoteShares::default()).with_names(Arc::new(names));
    match outcome_of(&prober, &tcp(format!("{host}:{port}"))).await {
        Ok(()) => assert!(is_admitted),
        Err((class, message)) => assert!(!is_admitted && class == Class::NotAdmitted, "{message}"),
    }
}

#[tokio::test]
async fn a_name_is_resolved_once_and_only_its_admitted_addresses_are_used() {
    let server = silent().await;
    let port = server.address.port();
    let other = std::net::TcpListener::bind(("127.0.0.2", port)).unwrap();
    other.set_nonblocking(true).unwrap();
    let (prober, names) =
        with_names(&["127.0.0.1/32"], &["127.0.0.2", "169.254.169.254", "::1", "127.0.0.1"]);
    assert_eq!(outcome_of(&prober, &tcp(format!("db.example.com:{port}"))).await, Ok(()));
    assert_eq!(names.lookups.load(Ordering::SeqCst), 1);
    assert_eq!(other.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_name_without_addresses_is_not_admitted_and_an_unknown_one_is_unreachable() {
    let (prober, _) = with_names(&["127.0.0.0/8"], &[]);
    let (class, _) = outcome_of(&prober, &tcp("db.example.com:5432")).await.unwrap_err();
    assert_eq!(class, Class::NotAdmitted);
    let prober = prober.with_names(Arc::new(NoNames));
    let (class, message) = outcome_of(&prober, &tcp("db.example.com:5432")).await.unwrap_err();
    assert!(class == Class::Unreachable && message.contains("is not reachable;"), "{message}");
}

#[tokio::test]
async fn another_address_is_tried_if_one_refuses() {
    let server = silent().await;
    let probe = tcp(format!("db.example.com:{}", server.address.port()));
    let (prober, _) = with_names(&["127.0.0.0/8"], &["127.0.0.2", "127.0.0.1"]);
    assert_eq!(outcome_of(&prober, &probe).await, Ok(()));
}

#[tokio::test]
async fn a_silent_service_times_out() {
    let server = silent().await;
    let prober = prober(&["127.0.0.0/8"]).with_deadline(IMPATIENT);
    let [first, others @ ..] = all(&server.address());
    assert_eq!(outcome_of(&prober, &first).await, Ok(()));
    for probe in others {
        let (class, message) = outcome_of(&prober, &probe).await.unwrap_err();
        assert_eq!(class, Class::Unreachable);
        assert!(message.contains("within 200ms"), "{message}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    let server = endless().await;
    let started = Instant::now();
    let [first, others @ ..] = all(&server.address());
    assert_eq!(outcome(&first).await, Ok(()));
    for probe in others {
        fails(&probe, Class::Unreachable, "is not reachable as a").await;
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// A closed port, a server that closes the connection, and a server of another protocol look the same.
#[rstest]
#[case::of_ssh("SSH-2.0-confidential\r\n")]
#[case::of_smtp("220 confidential ESMTP\r\n")]
#[case::of_a_text_protocol("confidential\r\n")]
#[case::of_zeros("\0\0\0\0\0\0\0\0\0\0\0\0")]
#[tokio::test]
async fn a_server_of_another_protocol_looks_like_a_closed_port(#[case] banner: &'static str) {
    let server = serve(move |mut stream| async move {
        stream.write_all(banner.as_bytes()).await?;
        stream.shutdown().await?;
        wait_for_end(stream).await
    })
    .await;
    let [_, open @ ..] = all(&server.address());
    let [_, closed @ ..] = all(&closed_port().await);
    for (open, closed) in open.iter().zip(&closed) {
        assert_eq!(outcome(open).await.unwrap_err(), outcome(closed).await.unwrap_err());
    }
}

#[rstest]
#[case(tcp("postgres://admin:hunter2@db.example.com:5432"), "`tcp.address` is not `host:port`")]
#[case(tcp("hunter2"), "`tcp.address` is not `host:port`")]
#[tokio::test]
async fn an_invalid_address_is_not_quoted(#[case] probe: Probe, #[case] words: &str) {
    let (class, message) = outcome(&probe).await.unwrap_err();
    assert!(class == Class::InvalidProbe && message.contains(words), "{message}");
}

#[test]
fn debug_shows_no_value() {
    for probe in all(PASSWORD) {
        assert_eq!(format!("{probe:?}"), format!("{} {{ .. }}", probe.kind()));
    }
}

#[tokio::test]
async fn probes_of_one_namespace_leave_room_for_others() {
    let server = silent().await;
    let prober = prober(&["127.0.0.0/8"]);
    let [.., waiting, _] = all(&server.address());
    let busy = (0..100).map(|_| prober.probe("training", &waiting));
    let mut busy: FuturesUnordered<_> = busy.collect();
    assert!(busy.next().now_or_never().is_none());
    assert_eq!(outcome_of(&prober, &tcp(server.address())).await, Ok(()));
}
