//! A real Kubernetes control plane on the loopback interface: etcd and kube-apiserver. On request it also has the
//! kube-controller-manager with the garbage collector, the namespace controller, the aggregation of roles, and the
//! controllers of Deployments, ReplicaSets and StatefulSets. There are no nodes, so no pod runs unless a
//! [`kubelet`](crate::kubelet) runs it.
//!
//! [`ControlPlane::builder`] starts a separate plane. [`ControlPlane::shared`] returns the plane that all tests of a
//! process share. There each test uses its own [namespace](ControlPlane::namespace), and its own
//! [user](ControlPlane::new_user) or [service account](ControlPlane::service_account). The [audit
//! log](ControlPlane::audit) records their requests.
//!
//! The test kit searches `$KUBEBUILDER_ASSETS`, the cache of this crate, and the official envtest archives for the
//! binaries. Otherwise it builds them with Go. All servers end with the process that started them, even if that process
//! is killed.
//!
//! `TESTKIT_KEEP=1` keeps the folder with the logs, and prints its path.

mod access;
mod audit;
mod binaries;
mod builder;
mod certificates;
mod controllers;
mod error;
mod manifests;
mod plane;
mod rbac;
mod running;
mod servers;
mod service_accounts;
mod store;
mod users;

pub use crate::{Progress, Stderr, Step};
pub use audit::{AuditLog, Request, Requests};
pub use builder::Builder;
pub use error::Error;
pub use manifests::documents;
pub use plane::ControlPlane;
pub use users::User;
