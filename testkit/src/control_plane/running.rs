//! The running etcd and API server, and outages of the API server.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::{Error, access::Access, servers::Site, users::Users};
use crate::process::{LOOK, Process, START_SECONDS};

/// The two servers, dropped in this order.
pub(super) struct Running {
    /// Absent during an outage.
    api_server: Option<Process>,
    etcd: Process,
}

impl Running {
    /// Starts both servers and waits until the API server is ready.
    pub(super) async fn start(site: &Site, access: &Access, users: &Users) -> Result<Self, Error> {
        let mut running = Self { etcd: site.start_etcd()?, api_server: None };
        running.start_api_server(site, access, users).await?;
        Ok(running)
    }

    /// Kills the API server in the middle of its work.
    pub(super) fn kill_api_server(&mut self) {
        drop(self.api_server.take());
    }

    /// Starts the API server unless it runs. Waits until `/readyz` is fine for the client that tests use.
    pub(super) async fn start_api_server(
        &mut self,
        site: &Site,
        access: &Access,
        users: &Users,
    ) -> Result<(), Error> {
        let Self { api_server, etcd } = self;
        let api_server = match api_server {
            Some(running) => running,
            None => api_server.insert(site.start_api_server()?),
        };
        let client = access.client(&users.admin)?;
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
        while Instant::now() < deadline {
            etcd.check()?;
            api_server.check()?;
            let mut request = http::Request::new(Vec::new());
            *request.uri_mut() = http::Uri::from_static("/readyz");
            let answer = timeout(Duration::from_secs(2), client.request_text(request)).await;
            if let Ok(Ok(_)) = answer {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Err(api_server.not_ready().into())
    }
}
