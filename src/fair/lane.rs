//! The lane of a caller, which a call finds without passing it as an argument.

use std::{fmt, sync::Arc};

tokio::task_local! {
    static CURRENT: Lane;
}

/// The unit that takes turns: the namespace of a tenant, or the operator itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(Arc<str>);

impl Lane {
    /// The lane of a namespace.
    #[must_use]
    pub fn of_namespace(namespace: &str) -> Self {
        Self(namespace.into())
    }

    /// The lane of a cluster-wide object, which an administrator wrote. A namespace's name has no `/`, so no tenant
    /// shares this lane.
    #[must_use]
    pub fn of_cluster(name: &str) -> Self {
        Self(format!("/{name}").into())
    }

    /// Runs `work` in this lane: [`Lane::current`] returns it at every depth of the call.
    ///
    /// A future that `work` spawns as a task of its own does not inherit the lane.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }

    /// The lane of this code. All code outside of any [`scope`](Lane::scope) shares one lane.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_else(|_| Self::of_cluster(""))
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
