//! The garbage collector and the other controllers, and the definitions that they must know.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams, WatchParams},
    core::GroupVersionKind,
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use tokio::time::{sleep, timeout};

use super::{Error, access::Access, servers::Site, users::Users};
use crate::process::Process;

/// The time limit for a definition to be served, in seconds.
const ESTABLISH_SECONDS: u64 = 30;

/// The controller manager, if there is one, and the definitions that it knows.
pub(super) struct Controllers {
    process: Option<Process>,
    starts: usize,
    installed: BTreeMap<String, CustomResourceDefinition>,
}

impl Controllers {
    pub(super) async fn start(site: &Site, access: &Access, users: &Users) -> Result<Self, Error> {
        let mut controllers = Self { process: None, starts: 0, installed: BTreeMap::new() };
        controllers.restart(site, access, users).await?;
        Ok(controllers)
    }

    /// Starts the controllers, or restarts them, and waits until they work.
    async fn restart(&mut self, site: &Site, access: &Access, users: &Users) -> Result<(), Error> {
        drop(self.process.take());
        self.starts += 1;
        if let Some(mut process) = site.start_controller_manager(access, users, self.starts)? {
            let at_work = ["Proceeding to collect garbage", "Starting namespace controller"];
            process.until_logged(|log| at_work.iter().all(|line| log.contains(line)).then_some(())).await?;
            self.process = Some(process);
        }
        Ok(())
    }

    /// Applies the definitions that have changed since the last call, and waits until they are served. Then it restarts
    /// the garbage collector, which finds new resources only every 30 s: too late for a test.
    pub(super) async fn install(
        &mut self,
        definitions: &[CustomResourceDefinition],
        site: &Site,
        access: &Access,
        users: &Users,
    ) -> Result<(), Error> {
        let client = access.client(&users.admin)?;
        let is_news = |definition: &&CustomResourceDefinition| {
            self.installed.get(&definition.name_any()) != Some(*definition)
        };
        let news: Vec<_> = definitions.iter().filter(is_news).collect();
        for definition in &news {
            let wait = Duration::from_secs(ESTABLISH_SECONDS);
            match timeout(wait, establish(&client, definition)).await {
                Ok(result) => result?,
                Err(_) => {
                    return Err(Error::TimedOut {
                        what: format!("that `{}` is served", definition.name_any()),
                        seconds: ESTABLISH_SECONDS,
                    });
                }
            }
        }
        let are_new = news.iter().any(|definition| !self.installed.contains_key(&definition.name_any()));
        if are_new && self.process.is_some() {
            self.restart(site, access, users).await?;
        }
        self.installed.extend(news.into_iter().map(|definition| (definition.name_any(), definition.clone())));
        Ok(())
    }
}

/// Applies one definition. Waits until discovery shows it and its objects can be watched.
async fn establish(client: &Client, definition: &CustomResourceDefinition) -> Result<(), Error> {
    let name = definition.name_any();
    let failed = || Error::kubernetes(format!("install `{name}`"));
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("testkit").force();
    api.patch(&name, &apply, &Patch::Apply(definition)).await.map_err(failed())?;
    await_condition(api, &name, is_crd_established()).await.map_err(|error| Error::TimedOut {
        what: format!("that `{name}` is established ({error})"),
        seconds: ESTABLISH_SECONDS,
    })?;
    let spec = &definition.spec;
    for version in spec.versions.iter().filter(|version| version.served) {
        let group_version = format!("{}/{}", spec.group, version.name);
        loop {
            let listed = client.list_api_group_resources(&group_version).await;
            let served = listed
                .is_ok_and(|list| list.resources.iter().any(|resource| resource.name == spec.names.plural));
            if served {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        let kind = GroupVersionKind::gvk(&spec.group, &version.name, &spec.names.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &spec.names.plural);
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        // The API server may refuse the first watches, and clients repeat them only after a second. This wait happens
        // here, and not in a test that measures time.
        drop(objects.watch(&WatchParams::default(), "0").await.map_err(failed())?);
    }
    Ok(())
}
