//! Limits that the calls to all remote sides of the process share: open requests and name lookups.

use std::{io, net::IpAddr, sync::Arc};

use super::Names;
use crate::fair::{FairPermit, FairSemaphore, Lane};

/// The most open requests through KeyProviders. Each has a connection, and may last as long as a tenant's
/// `limits.timeout`. So a namespace may have at most as many of them as remain free.
const REQUESTS: usize = 512;

/// The most name lookups at the same time. Each blocks a thread until the name servers answer or the system's resolver
/// times out, and a tenant may run the name server of its host. So a namespace may have at most as many as remain free.
const LOOKUPS: usize = 64;

/// The share of one remote side in these limits.
#[derive(Clone, Debug)]
pub struct RemoteShares {
    lane: Lane,
    requests: FairSemaphore,
    lookups: FairSemaphore,
    /// Whether the administrator's limits on the provider bound its requests.
    is_limited_elsewhere: bool,
}

impl Default for RemoteShares {
    fn default() -> Self {
        Self {
            lane: Lane::of_cluster(""),
            requests: FairSemaphore::leaving_room(REQUESTS),
            lookups: FairSemaphore::leaving_room(LOOKUPS),
            is_limited_elsewhere: true,
        }
    }
}

impl RemoteShares {
    /// The share of a remote side that a tenant chose, in the lane of its namespace.
    #[must_use]
    pub fn of_tenant(&self, lane: Lane) -> Self {
        Self { lane, is_limited_elsewhere: false, ..self.clone() }
    }

    /// The share of a remote side that an administrator chose. The provider's own limits bound its requests.
    #[must_use]
    pub fn of_administrator(&self, lane: Lane) -> Self {
        Self { lane, is_limited_elsewhere: true, ..self.clone() }
    }

    /// Waits until one more request may start.
    pub(super) async fn request(&self) -> Option<FairPermit> {
        if self.is_limited_elsewhere { None } else { self.requests.acquire(&self.lane).await }
    }

    /// Looks up the addresses of a host with this resolver.
    ///
    /// The blocked thread keeps its slot until the resolver returns, even if the caller no longer waits.
    pub(super) async fn look_up(&self, names: Arc<dyn Names>, host: &str) -> io::Result<Vec<IpAddr>> {
        let permit = self.lookups.acquire(&self.lane).await;
        let host = host.to_owned();
        let lookup = tokio::task::spawn_blocking(move || {
            let found = names.addresses(&host);
            drop(permit);
            found
        });
        lookup.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::backend::http::names::SystemNames;

    #[tokio::test]
    async fn requests_of_one_namespace_leave_room_for_others() {
        let shares = RemoteShares::default();
        let (busy, other) =
            (shares.of_tenant(Lane::of_namespace("busy")), shares.of_tenant(Lane::of_namespace("other")));
        let held: Vec<_> = std::iter::from_fn(|| busy.request().now_or_never()).collect();
        assert_eq!(held.len(), REQUESTS / 2);
        assert!(other.request().now_or_never().is_some());
        let cluster = shares.of_administrator(Lane::of_cluster("shared"));
        assert!(cluster.request().now_or_never().is_some(), "its own limits hold");
    }

    #[tokio::test]
    async fn lookups_find_an_address() {
        let found = RemoteShares::default().look_up(Arc::new(SystemNames), "127.0.0.1").await.unwrap();
        assert_eq!(found, [IpAddr::from([127, 0, 0, 1])]);
    }

    /// The lookups of one namespace wait for name servers that never answer. They occupy only the slots of that
    /// namespace.
    #[tokio::test]
    async fn lookups_of_one_namespace_leave_room_for_others() {
        let shares = RemoteShares::default();
        let (lane, other) = (Lane::of_namespace("busy"), shares.of_tenant(Lane::of_namespace("other")));
        let held: Vec<_> = std::iter::from_fn(|| shares.lookups.try_acquire(&lane).ok()).collect();
        assert_eq!(held.len(), LOOKUPS / 2);
        assert!(other.look_up(Arc::new(SystemNames), "127.0.0.1").await.is_ok());
        let busy = shares.of_tenant(lane);
        assert!(
            busy.look_up(Arc::new(SystemNames), "127.0.0.1").now_or_never().is_none(),
            "it waits for its own"
        );
    }
}
