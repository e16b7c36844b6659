//! A real Kubernetes control plane on the loopback interface: etcd, kube-apiserver and, when asked
//! for, the kube-controller-manager with the garbage collector, the namespace controller and the
//! aggregation of roles. There are no nodes, so pods are stored and never run.
//!
//! [`ControlPlane::builder`] starts one of your own; [`ControlPlane::shared`] is the one all tests
//! of a process use together, each in its own [namespace](ControlPlane::namespace) and as its own
//! [user](ControlPlane::new_user) or [service account](ControlPlane::service_account), whose requests the
//! [audit log](ControlPlane::audit) counts.
//!
//! The binaries are looked for in `$KUBEBUILDER_ASSETS`, in the cache of this crate, in the official
//! envtest archives, and else built with Go. Nothing outlives the process that started it, however
//! that one ends.
//!
//! `TESTKIT_KEEP=1` keeps the folder with the logs, and says where it is.

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
