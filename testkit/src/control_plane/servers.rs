//! The command lines of the servers.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{Error, access::Access, binaries::Binaries, certificates::Certificates, users::Users};
use crate::process::{Process, ProcessError};

/// The controllers that clean up, the one that fills roles such as `edit`, which are empty without it, and those that
/// create pods for workloads. DaemonSets need Nodes, which do not exist here.
const CONTROLLERS: [&str; 6] = [
    "garbage-collector-controller",
    "namespace-controller",
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
];

/// The common files, binaries and ports of the servers of one plane.
pub(super) struct Site {
    folder: PathBuf,
    binaries: Binaries,
    etcd_port: u16,
    /// The port of the API server.
    pub(super) api_port: u16,
}

impl Site {
    /// Writes all files that the servers read, and picks free ports. The API server's port is free or the requested
    /// one.
    pub(super) fn new(
        folder: &Path,
        binaries: Binaries,
        api_port: Option<u16>,
        certificates: &Certificates,
        users: &Users,
    ) -> Result<Self, Error> {
        let [api_port, etcd_port] = free_ports([api_port, None])?;
        let site = Self { folder: folder.to_owned(), binaries, etcd_port, api_port };
        let files = [
            ("server.crt", &certificates.server_certificate),
            ("server.key", &certificates.server_key),
            ("service-account.key", &certificates.service_account_key),
            ("service-account.pub", &certificates.service_account_public_key),
            ("tokens.csv", &users.token_file()),
            ("audit-policy.yaml", &audit_policy(users)),
        ];
        for (name, content) in files {
            site.write(name, content)?;
        }
        Ok(site)
    }

    /// Writes a file for the servers or clients.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        fs::write(&path, content).map_err(Error::io("write", &path))?;
        Ok(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }

    /// The API server's audit log.
    pub(super) fn audit_log(&self) -> PathBuf {
        self.path("audit.log")
    }

    /// A flag whose value is the path of a file in the folder.
    fn flag(&self, name: &str, file: &str) -> OsString {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(self.path(file));
        flag
    }

    /// Starts etcd. Its data are deleted with the plane, so it does not flush them to the disk. As the only member it
    /// needs no wait before it elects itself.
    pub(super) fn start_etcd(&self) -> Result<Process, ProcessError> {
        let client = self.etcd_url();
        let arguments = [
            self.flag("data-dir", "etcd"),
            format!("--listen-client-urls={client}").into(),
            format!("--advertise-client-urls={client}").into(),
            "--listen-peer-urls=http://127.0.0.1:0".into(),
            "--unsafe-no-fsync".into(),
            "--heartbeat-interval=10".into(),
            "--election-timeout=100".into(),
            "--log-level=warn".into(),
        ];
        Process::start("etcd", &self.binaries.etcd, &arguments, self.path("etcd.log"))
    }

    /// Starts the API server, with the default admission plugins of clusters and one that OpenShift adds. Only
    /// `ServiceAccount` is off: it would refuse every pod, because no controller creates service accounts here.
    pub(super) fn start_api_server(&self) -> Result<Process, ProcessError> {
        let arguments = [
            format!("--etcd-servers={}", self.etcd_url()).into(),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={}", self.api_port).into(),
            self.flag("cert-dir", "certificates"),
            self.flag("tls-cert-file", "server.crt"),
            self.flag("tls-private-key-file", "server.key"),
            self.flag("service-account-key-file", "service-account.pub"),
            self.flag("service-account-signing-key-file", "service-account.key"),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            self.flag("token-auth-file", "tokens.csv"),
            "--authorization-mode=RBAC".into(),
            "--disable-admission-plugins=ServiceAccount".into(),
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".into(),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            "--endpoint-reconciler-type=none".into(),
            self.flag("audit-policy-file", "audit-policy.yaml"),
            self.flag("audit-log-path", "audit.log"),
            "--audit-log-mode=blocking".into(),
            // Without rotation, because the counts would miss the entries of a second file.
            "--audit-log-maxsize=0".into(),
        ];
        Process::start(
            "kube-apiserver",
            &self.binaries.api_server,
            &arguments,
            self.path("kube-apiserver.log"),
        )
    }

    /// Starts the controllers, if the builder requested them; `start` counts their starts.
    pub(super) fn start_controller_manager(
        &self,
        access: &Access,
        users: &Users,
        start: usize,
    ) -> Result<Option<Process>, Error> {
        let Some(binary) = &self.binaries.controller_manager else {
            return Ok(None);
        };
        let kubeconfig = "controller-manager.kubeconfig";
        self.write(kubeconfig, &access.kubeconfig(&users.controller_manager)?)?;
        let arguments = [
            self.flag("kubeconfig", kubeconfig),
            format!("--controllers={}", CONTROLLERS.join(",")).into(),
            "--use-service-account-credentials=false".into(),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            // The deletion of a namespace lists every resource, which is slow with the default of 20 a second.
            "--kube-api-qps=1000".into(),
            "--kube-api-burst=1000".into(),
        ];
        let log = self.path(&format!("kube-controller-manager-{start}.log"));
        Ok(Some(Process::start("kube-controller-manager", binary, &arguments, log)?))
    }
}

/// Ports that are free now: the requested ones, and any others. Another process may take them before the server starts.
/// Then the builder starts again with other ports.
pub(super) fn free_ports<const N: usize>(wanted: [Option<u16>; N]) -> Result<[u16; N], Error> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for (port, wanted) in ports.iter_mut().zip(wanted) {
        let listener = listen(wanted)?;
        *port = listener.local_addr().map_err(Error::Port)?.port();
        // Open until all are picked, so that no port is picked twice.
        listeners.push(listener);
    }
    Ok(ports)
}

fn listen(wanted: Option<u16>) -> Result<TcpListener, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, wanted.unwrap_or(0))).map_err(|error| match wanted {
        Some(port) => Error::ApiPort { port, why: error.kind() },
        None => Error::Port(error),
    })
}

/// Records the requests of test users and of service accounts, and no requests of the plane itself. In JSON, which is
/// also YAML.
fn audit_policy(users: &Users) -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "users": users.audited()},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn ports_picked_together_differ() {
        let [one, two] = free_ports([None, None]).unwrap();
        assert_ne!(one, two);
    }

    #[test]
    fn a_port_that_is_taken_is_refused_by_name() {
        let taken = listen(None).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = free_ports([Some(port), None]).unwrap_err();
        assert_eq!(error.to_string(), format!("port {port} can't be used: address in use"));
    }

    #[test]
    fn a_port_that_is_asked_for_is_picked_when_it_is_free() {
        let picked = (0..100).find_map(|_| {
            let wanted = listen(None).unwrap().local_addr().unwrap().port();
            match free_ports([Some(wanted), None]) {
                Ok([picked, other]) => Some((wanted, picked, other)),
                // Another process took the port in between.
                Err(Error::ApiPort { port, why: ErrorKind::AddrInUse }) if port == wanted => None,
                Err(error) => panic!("{error}"),
            }
        });
        let (wanted, picked, other) = picked.unwrap();
        assert_eq!(picked, wanted);
        assert_ne!(other, wanted);
    }

    #[test]
    fn users_of_the_plane_itself_are_not_audited() {
        let policy = audit_policy(&Users::new(1));
        assert!(policy.contains(r#""users":["operator-1"]"#));
    }
}
