//! Decides which addresses the operator may connect to, and which of their answers a tenant may read.
//!
//! A user who may write a `KeyProvider` chooses the addresses that the operator connects to. The rules here exclude the
//! node's own services, the API server, and every network that the administrator denies. They also exclude the cloud's
//! metadata service, which would disclose the node's identity.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use url::{Host, Url};

use super::{
    ApiServer, Author, HttpFailure, HttpFailureKind, Network, RemoteShares,
    named_host::NamedHost,
    names::{Names, SystemNames},
    path::literal,
    possible_addresses::{is_private, kind_of_refused},
};

/// The administrator's rules about addresses.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    /// Networks that are admitted, including for plain http (`--allow-cidr`).
    pub allow: Vec<Network>,
    /// Networks that are admitted for https (`--allow-https-cidr`).
    pub allow_https: Vec<Network>,
    /// Networks that are refused, even if another rule admits them (`--deny-cidr`).
    pub deny: Vec<Network>,
    /// Networks whose answers a tenant may read without a previous valid answer (`--disclose-cidr`).
    pub disclose: Vec<Network>,
    /// Whether a `KeyProvider` may use private addresses only if they are admitted
    /// (`--deny-private-for-key-providers`).
    pub deny_private_for_key_providers: bool,
    /// The API server of the operator's own cluster, which is not a remote side.
    pub api_server: ApiServer,
    /// Hosts, in addition to IBM Cloud's own, at which trusted profiles may be used (`--ibm-cloud-host`).
    pub ibm_cloud_hosts: Vec<NamedHost>,
}

/// The addresses that a provider may use.
///
/// The default refuses loopback, link-local, unspecified and multicast addresses and the clouds' metadata services, in
/// all notations. It also refuses plain http to any address. Admitting a network does not admit the metadata services
/// in it.
#[derive(Clone)]
pub struct AddressPolicy {
    rules: Arc<AddressRules>,
    author: Author,
    names: Arc<dyn Names>,
}

impl Default for AddressPolicy {
    fn default() -> Self {
        AddressRules::default().into()
    }
}

impl From<AddressRules> for AddressPolicy {
    fn from(rules: AddressRules) -> Self {
        Self { rules: Arc::new(rules), author: Author::default(), names: Arc::new(SystemNames) }
    }
}

impl fmt::Debug for AddressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rules, author, names: _ } = self;
        f.debug_struct("AddressPolicy").field("rules", rules).field("author", author).finish()
    }
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressRefusal {
    ApiServer,
    Denied,
    /// A kind of address that providers may use only if it is admitted.
    Kind(&'static str),
    Private,
    PlainHttp,
}

impl AddressRefusal {
    /// Describes the problem with the host, and the setting that admits it.
    pub(super) fn words(self, host: &str) -> String {
        match self {
            Self::ApiServer => {
                format!(
                    "`{host}` is the API server of the operator's own cluster, which is not a remote side"
                )
            }
            Self::Denied => format!(
                "`{host}` is in a network that the operator refuses (`--deny-cidr`, chart value \
                 `operator.denyCidrs`)"
            ),
            Self::Kind(kind) => format!("`{host}` is {kind}, which is refused; {ADMIT}"),
            Self::Private => {
                format!("`{host}` is a private address, which KeyProviders may not use; {ADMIT}")
            }
            Self::PlainHttp => format!(
                "plain http to `{host}` is refused; use https, or have the administrator admit http to its address \
                 with the chart value `operator.allowCidrs` (`--allow-cidr`)"
            ),
        }
    }
}

pub(super) const ADMIT: &str = "have the administrator admit the address with the chart value \
     `operator.allowHttpsCidrs` (`--allow-https-cidr`)";

impl AddressPolicy {
    /// Admits these ranges for all providers, including for plain http.
    #[must_use]
    pub fn admitting(ranges: impl IntoIterator<Item = IpNet>) -> Self {
        let allow = ranges.into_iter().map(Network::from).collect();
        AddressRules { allow, ..AddressRules::default() }.into()
    }

    /// The rules for all authors.
    pub(crate) fn rules(&self) -> &AddressRules {
        &self.rules
    }

    /// The same policy for a provider of this author.
    #[must_use]
    pub fn for_author(&self, author: Author) -> Self {
        Self { author, ..self.clone() }
    }

    /// The same policy with another resolver than the system's. Tests provide their own.
    #[must_use]
    pub fn with_names(self, names: Arc<dyn Names>) -> Self {
        Self { names, ..self }
    }

    pub(crate) fn names(&self) -> Arc<dyn Names> {
        Arc::clone(&self.names)
    }

    /// Whether the author may read the remote side's answers only if its address is
    /// [known to be harmless](Self::discloses).
    pub(super) const fn guards_answers(&self) -> bool {
        matches!(self.author, Author::Tenant { .. })
    }

    /// Whether the author may read the answers of this address, in whichever protocol they are.
    pub(super) fn discloses(&self, address: IpAddr) -> bool {
        !self.guards_answers() || !is_private(address) || self.has(&self.rules.disclose, address)
    }

    /// Whether the author may use private addresses only if they are admitted.
    pub(super) fn refuses_private(&self) -> bool {
        self.guards_answers() && self.rules.deny_private_for_key_providers
    }

    /// The ranges that the operator connects to without a proxy.
    pub(super) fn next_door(&self) -> impl Iterator<Item = &IpNet> {
        let admitted = self.rules.allow.iter().chain(&self.rules.allow_https);
        admitted.filter(|network| network.is_for(&self.author)).map(Network::range)
    }

    /// Whether the administrator listed this host and port for trusted profiles of IBM Cloud.
    pub(in crate::backend) fn names_ibm_cloud_host(&self, url: &Url) -> bool {
        self.rules.ibm_cloud_hosts.iter().any(|host| host.is_of(url))
    }

    /// The reason to refuse a connection to this address, or `None` if it is admitted.
    pub(super) fn refusal(&self, address: SocketAddr, plain_http: bool) -> Option<AddressRefusal> {
        let (rules, ip) = (&*self.rules, address.ip());
        let denied =
            rules.deny.iter().any(|network| network.is_for(&self.author) && network.contains_any_of(ip));
        let allowed_for_http = self.has(&rules.allow, ip);
        if rules.api_server.is_at(address) {
            Some(AddressRefusal::ApiServer)
        } else if denied {
            Some(AddressRefusal::Denied)
        } else if plain_http && !allowed_for_http {
            Some(AddressRefusal::PlainHttp)
        } else if allowed_for_http || self.has(&rules.allow_https, ip) {
            None
        } else if let Some(kind) = kind_of_refused(ip) {
            Some(AddressRefusal::Kind(kind))
        } else {
            (self.refuses_private() && is_private(ip)).then_some(AddressRefusal::Private)
        }
    }

    /// Resolves the host, and returns those of its addresses that a network of [`AddressRules::allow`] admits.
    ///
    /// # Errors
    /// If the name is unknown, or no name server answers.
    pub(crate) async fn allowed_addresses(
        &self,
        host: &Host,
        port: u16,
        shares: &RemoteShares,
    ) -> io::Result<Vec<SocketAddr>> {
        let found = match host {
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
            Host::Domain(name) if self.rules.api_server.has_name(name) => Vec::new(),
            Host::Domain(name) => shares.look_up(self.names(), name).await?,
        };
        let found = found.into_iter().map(|ip| SocketAddr::new(ip, port));
        // The policy admits plain http only to the networks of `allow`.
        Ok(found.filter(|address| self.refusal(*address, true).is_none()).collect())
    }

    fn has(&self, networks: &[Network], address: IpAddr) -> bool {
        networks.iter().any(|network| network.is_for(&self.author) && network.contains_all_of(address))
    }

    /// Checks the URL without resolving its name. The resolver checks the addresses of a name again. Literal addresses
    /// are checked only here, because they do not pass through a resolver.
    pub(in crate::backend) fn check(&self, url: &Url) -> Result<(), HttpFailure> {
        let Some(host) = url.host() else {
            return Err(HttpFailure::new(
                HttpFailureKind::Refused,
                "the address has no host: write `https://<host>`",
            ));
        };
        let plain_http = match url.scheme() {
            "https" => false,
            "http" => true,
            scheme => {
                return Err(HttpFailure::new(
                    HttpFailureKind::Refused,
                    format!("`{scheme}` is not a supported scheme: use `https`"),
                ));
            }
        };
        let refusal = match literal(url) {
            Some(address) => self.refusal(address, plain_http),
            None if self.rules.api_server.is_called(url) => Some(AddressRefusal::ApiServer),
            None => (plain_http && !self.allows_some_address()).then_some(AddressRefusal::PlainHttp),
        };
        refusal.map_or(Ok(()), |refusal| {
            Err(HttpFailure::new(HttpFailureKind::Refused, refusal.words(&shown(&host))))
        })
    }

    /// Whether a network of [`AddressRules::allow`] applies to the author.
    pub(crate) fn allows_some_address(&self) -> bool {
        self.rules.allow.iter().any(|network| network.is_for(&self.author))
    }
}

/// The host without the brackets that a URL has around IPv6 addresses.
fn shown(host: &Host<&str>) -> String {
    match host {
        Host::Ipv6(address) => address.to_string(),
        Host::Ipv4(_) | Host::Domain(_) => host.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn tenant() -> Author {
        Author::Tenant { namespace: "billing".to_owned() }
    }

    fn refusal(rules: AddressRules, author: Author, address: &str) -> Option<AddressRefusal> {
        let policy = AddressPolicy::from(rules).for_author(author);
        policy.refusal(SocketAddr::new(address.parse().unwrap(), 443), false)
    }

    #[rstest]
    #[case("10.0.0.1")]
    #[case("192.168.0.1")]
    #[case("fd00::1")]
    #[case("93.184.215.14")]
    #[case("2606:4700::1111")]
    fn lets_pass(#[case] address: &str) {
        for author in [Author::Administrator, tenant()] {
            assert_eq!(refusal(AddressRules::default(), author, address), None);
        }
    }

    #[rstest]
    #[case("127.0.0.1", true)]
    #[case("::ffff:127.0.0.1", true)]
    #[case("2002:7f00:1::", true)]
    #[case("127.0.1.1", false)]
    #[case("::1", false)]
    #[case("fe80::1", true)]
    #[case("169.254.169.254", false)]
    // Two embedded addresses are possible: one is admitted, the other is not.
    #[case("64:ff9b:1:a9fe:a9:fe00:7f00:1", false)]
    fn admits_what_the_flag_names(#[case] address: &str, #[case] admitted: bool) {
        let ranges = || networks(&["127.0.0.0/24", "fe80::/64"]);
        for rules in [
            AddressRules { allow: ranges(), ..AddressRules::default() },
            AddressRules { allow_https: ranges(), ..AddressRules::default() },
        ] {
            assert_eq!(refusal(rules, tenant(), address).is_none(), admitted);
        }
    }

    #[rstest]
    #[case("169.254.0.0/16", "169.254.169.254", false)]
    #[case("169.254.169.254/32", "169.254.169.254", true)]
    #[case("169.254.169.254/32", "::ffff:169.254.169.254", true)]
    #[case("169.254.169.252/30", "169.254.169.254", false)]
    #[case("100.64.0.0/10", "100.100.100.200", false)]
    #[case("100.64.0.0/10", "100.100.100.201", true)]
    #[case("fd00::/8", "fd00:ec2::254", false)]
    #[case("fd00::/8", "fd20:ce::254", false)]
    #[case("fd00::/8", "fd00:ec2::255", true)]
    #[case("fd00:ec2::254/128", "fd00:ec2::254", true)]
    #[case("64:ff9b::/96", "64:ff9b::a9fe:a9fe", false)]
    #[case("64:ff9b::a9fe:a9fe/128", "64:ff9b::a9fe:a9fe", true)]
    #[case("0.0.0.0/0", "168.63.129.16", false)]
    fn admits_a_metadata_service_by_its_own_address_only(
        #[case] range: &str,
        #[case] address: &str,
        #[case] admitted: bool,
    ) {
        for rules in [
            AddressRules { allow: networks(&[range]), ..AddressRules::default() },
            AddressRules { allow_https: networks(&[range]), ..AddressRules::default() },
        ] {
            assert_eq!(refusal(rules, tenant(), address).is_none(), admitted);
        }
    }

    #[rstest]
    #[case(&["ClusterKeyProviders=127.0.0.0/8"], Author::Administrator, true)]
    #[case(&["ClusterKeyProviders=127.0.0.0/8"], tenant(), false)]
    #[case(&["namespace/billing=127.0.0.0/8"], tenant(), true)]
    #[case(&["namespace/training=127.0.0.0/8"], tenant(), false)]
    #[case(&["namespace/billing=127.0.0.0/8"], Author::Administrator, false)]
    fn admits_it_to_those_whom_the_flag_names(
        #[case] allow: &[&str],
        #[case] author: Author,
        #[case] admitted: bool,
    ) {
        let policy = AddressPolicy::from(AddressRules { allow: networks(allow), ..AddressRules::default() });
        let policy = policy.for_author(author);
        let address = "127.0.0.1:80".parse().unwrap();
        assert_eq!(policy.refusal(address, true).is_none(), admitted);
        assert_eq!(policy.check(&"http://127.0.0.1".parse().unwrap()).is_ok(), admitted);
        assert_eq!(policy.check(&"http://broker.example.com".parse().unwrap()).is_ok(), admitted);
    }

    #[rstest]
    #[case("10.1.2.3", Some(AddressRefusal::Denied))]
    #[case("64:ff9b::10.1.2.3", Some(AddressRefusal::Denied))]
    #[case("64:ff9b:1:a01:2:300::", Some(AddressRefusal::Denied))]
    #[case("10.2.2.3", None)]
    fn refuses_what_is_denied_although_it_is_admitted(
        #[case] address: &str,
        #[case] expected: Option<AddressRefusal>,
    ) {
        let rules = AddressRules {
            allow: networks(&["10.0.0.0/8"]),
            deny: networks(&["10.1.0.0/16"]),
            ..AddressRules::default()
        };
        assert_eq!(refusal(rules, Author::Administrator, address), expected);
    }

    #[rstest]
    #[case("10.1.2.3", [None, Some(AddressRefusal::Private)])]
    #[case("fd00::1", [None, Some(AddressRefusal::Private)])]
    #[case("64:ff9b::10.1.2.3", [None, Some(AddressRefusal::Private)])]
    #[case("2002:a01:203::", [None, Some(AddressRefusal::Private)])]
    #[case("10.2.2.3", [None, None])]
    #[case("93.184.215.14", [None, None])]
    fn refuses_private_addresses_to_tenants_where_asked_to(
        #[case] address: &str,
        #[case] expected: [Option<AddressRefusal>; 2],
    ) {
        let rules = || AddressRules {
            allow_https: networks(&["namespace/billing=10.2.0.0/16"]),
            deny_private_for_key_providers: true,
            ..AddressRules::default()
        };
        let found = [Author::Administrator, tenant()].map(|author| refusal(rules(), author, address));
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case("93.184.215.14", &[], true)]
    #[case("10.1.2.3", &[], false)]
    #[case("10.1.2.3", &["10.0.0.0/8"], true)]
    #[case("10.1.2.3", &["namespace/training=10.0.0.0/8"], false)]
    #[case("64:ff9b::10.1.2.3", &[], false)]
    fn discloses_what_is_public_or_named(
        #[case] address: IpAddr,
        #[case] disclose: &[&str],
        #[case] expected: bool,
    ) {
        let rules = AddressRules { disclose: networks(disclose), ..AddressRules::default() };
        let policy = AddressPolicy::from(rules);
        assert_eq!(policy.for_author(tenant()).discloses(address), expected);
        assert!(policy.discloses(address), "an administrator may read everything");
    }

    #[rstest]
    #[case("https://broker.example.com", &[], None)]
    #[case("https://10.1.2.3", &[], None)]
    #[case("https://127.0.0.1", &[], Some("`127.0.0.1` is a loopback address"))]
    #[case("https://127.1", &[], Some("`127.0.0.1` is a loopback address"))]
    #[case("https://2130706433", &[], Some("`127.0.0.1` is a loopback address"))]
    #[case("https://0x7f.0.0.1", &[], Some("`127.0.0.1` is a loopback address"))]
    #[case("https://127.0.0.1.", &[], Some("`127.0.0.1` is a loopback address"))]
    #[case("https://[::ffff:a9fe:a9fe]", &[], Some("metadata address"))]
    #[case("https://127.0.0.1", &["127.0.0.0/8"], None)]
    #[case("http://127.0.0.1:8080", &["127.0.0.0/8"], None)]
    #[case("http://10.1.2.3", &["127.0.0.0/8"], Some("plain http to `10.1.2.3` is refused"))]
    #[case("http://broker.example.com", &[], Some("plain http to `broker.example.com` is refused"))]
    #[case("http://broker.example.com", &["10.0.0.0/8"], None)]
    #[case("ftp://broker.example.com", &[], Some("`ftp` is not a supported scheme"))]
    #[case("https://10.96.0.1:8443", &["10.0.0.0/8"], Some("`10.96.0.1` is the API server"))]
    #[case("https://[64:ff9b::10.96.0.1]", &[], Some("is the API server"))]
    #[case("https://127.0.0.1:6443", &["127.0.0.0/8"], Some("`127.0.0.1` is the API server"))]
    #[case("https://API.example.com.", &[], Some("`api.example.com.` is the API server"))]
    fn checks_urls(#[case] url: Url, #[case] ranges: &[&str], #[case] refusal: Option<&str>) {
        let api_server = ApiServer::at(
            ["api.example.com".to_owned()],
            ["10.96.0.1:443".parse().unwrap(), "127.0.0.1:6443".parse().unwrap()],
        );
        let rules = AddressRules { allow: networks(ranges), api_server, ..AddressRules::default() };
        match (AddressPolicy::from(rules).check(&url), refusal) {
            (Ok(()), None) => {}
            (Err(failure), Some(words)) => {
                assert_eq!(failure.kind, HttpFailureKind::Refused, "{failure:?}");
                assert!(failure.message.contains(words), "{failure:?}");
            }
            (outcome, _) => panic!("{outcome:?}"),
        }
    }
}
