//! The offerings and plans of a broker, cached for a few minutes.

use std::{sync::Arc, time::Duration};

use super::wire;
use crate::backend::{
    BackendError, ErrorClass, MemoryShare, PlanIds,
    bounded::{shown_name, shown_names},
    memory::AllocatedMemory,
    single_flight::SingleFlight,
};

/// How long a catalog is cached.
const POSITIVE_TTL: Duration = Duration::from_secs(300);
/// How old a catalog must be before an unknown name causes another request.
const NEGATIVE_TTL: Duration = Duration::from_secs(10);
/// The most bytes of ids and names that the operator keeps. The largest marketplaces have thousands of plans.
const LARGEST: usize = 2 << 20;

/// One plan of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CatalogPlan {
    pub(super) service_id: String,
    pub(super) plan_id: String,
    pub(super) name: String,
    /// A flaw in the catalog's description of the plan. The operator creates no keys of such a plan.
    pub(super) flaw: Option<&'static str>,
    /// Whether the broker creates keys of this plan. The plan's own value overrides the offering's.
    pub(super) bindable: bool,
    /// Whether the broker shows the credentials of an existing key.
    pub(super) retrievable: bool,
    /// Whether a bind may name the key that it replaces.
    pub(super) rotatable: bool,
    /// How long an operation on a key may take.
    pub(super) longest_operation: Option<Duration>,
}

impl CatalogPlan {
    /// The ids that requests contain.
    pub(super) fn ids(&self) -> PlanIds {
        PlanIds { service_id: self.service_id.clone(), plan_id: self.plan_id.clone() }
    }
}

/// The offerings of one broker.
pub(super) struct Catalog {
    offerings: Vec<Offering>,
    /// Entries that can't be used.
    flawed: Flawed,
    /// Bytes that the catalog takes in memory.
    size: usize,
    held: Option<AllocatedMemory>,
}

/// One offering.
struct Offering {
    id: String,
    name: String,
    bindable: Option<bool>,
    bindings_retrievable: bool,
    instances_retrievable: bool,
    plans: Vec<PlanEntry>,
    /// Plans for which the operator creates no keys. It can still revoke the keys that they have.
    flawed_plans: Vec<PlanEntry>,
}

struct PlanEntry {
    id: String,
    name: String,
    flaw: Option<&'static str>,
    bindable: Option<bool>,
    rotatable: bool,
    longest_operation: Option<Duration>,
}

impl Catalog {
    /// Reads a catalog. It skips offerings and plans that can't be read, and keeps all others.
    ///
    /// # Errors
    /// The body is invalid. The message names the fault, and quotes nothing from the body.
    pub(super) fn read(body: &[u8]) -> Result<Self, &'static str> {
        let body: wire::CatalogBody<'_> = serde_json::from_slice(body).map_err(|_| "is not a catalog")?;
        let (mut offerings, mut flawed, mut size) = (Vec::new(), Flawed::default(), 0);
        for service in body.services.0 {
            let Some(offering) = Offering::read(service.get(), &mut flawed) else { continue };
            size += offering.size();
            if size > LARGEST {
                return Err("contains more than 2 MiB of ids and names");
            }
            offerings.push(offering);
        }
        Ok(Self { offerings, flawed, size, held: None })
    }

    /// Describes the entries that can't be used, for the author of the provider.
    pub(super) fn shortcomings(&self) -> Option<String> {
        self.flawed.message()
    }

    /// Counts the catalog against this share of the memory.
    ///
    /// # Errors
    /// [`ErrorClass::Transient`] when there is not enough memory.
    pub(super) fn held(self, share: &MemoryShare) -> Result<Self, BackendError> {
        let mut holding = share.hold(|| {});
        holding.grow_now(self.size).map_err(|why| {
            BackendError::new(ErrorClass::Transient, format!("the catalog can't be kept in memory: {why}"))
        })?;
        Ok(Self { held: Some(holding), ..self })
    }

    /// Whether keys could be created for any plan.
    pub(super) fn has_plans(&self) -> bool {
        self.offerings.iter().any(|offering| !offering.plans.is_empty())
    }

    /// Whether the operator may request the plan of an instance.
    pub(super) fn shows_instances(&self) -> bool {
        self.offerings.iter().any(|offering| offering.instances_retrievable)
    }

    /// Whether the broker shows the credentials of keys of the offering with this id.
    pub(super) fn shows_keys_of(&self, service_id: &str) -> Option<bool> {
        let offering = self.offerings.iter().find(|offering| offering.id == service_id)?;
        Some(offering.bindings_retrievable)
    }

    /// # Errors
    /// The unknown name, and the names that exist.
    pub(super) fn resolve(&self, offering: &str, plan: &str) -> Result<CatalogPlan, Unknown> {
        let Some(service) = find(&self.offerings, offering, |offering| (&offering.id, &offering.name)) else {
            return Err(Unknown::offering(offering, self.offerings.iter().map(|offering| &*offering.name)));
        };
        let find_in = |plans| find(plans, plan, |entry: &PlanEntry| (&entry.id, &entry.name));
        let Some(found) = find_in(&service.plans).or_else(|| find_in(&service.flawed_plans)) else {
            let known = service.plans.iter().map(|plan| &*plan.name);
            return Err(Unknown::plan(offering, &service.id, plan, known));
        };
        Ok(CatalogPlan {
            service_id: service.id.clone(),
            plan_id: found.id.clone(),
            name: found.name.clone(),
            flaw: found.flaw,
            bindable: found.flaw.is_none() && found.bindable.or(service.bindable).unwrap_or(true),
            retrievable: service.bindings_retrievable,
            rotatable: found.rotatable,
            longest_operation: found.longest_operation,
        })
    }
}

impl Offering {
    /// Reads one entry of the catalog. An entry without an id or a name is recorded as flawed.
    fn read(text: &str, flawed: &mut Flawed) -> Option<Self> {
        let Ok(service) = serde_json::from_str::<wire::ServiceObject<'_>>(text) else {
            flawed.push(None, None, "is not an object");
            return None;
        };
        let raw_plans = service.plans();
        let (id, name) = (service.id.0, service.name.0);
        let (Some(id), Some(name)) = (id.clone(), name.clone()) else {
            let flaw = if id.is_none() { NO_ID } else { NO_NAME };
            flawed.push(id.or(name).as_deref(), None, flaw);
            return None;
        };
        let flags = [
            (service.bindable, "has a `bindable` that is neither true nor false"),
            (service.bindings_retrievable, "has a `bindings_retrievable` that is neither true nor false"),
            (service.instances_retrievable, "has an `instances_retrievable` that is neither true nor false"),
        ];
        for (_, flaw) in flags.into_iter().filter(|(flag, _)| flag.is_odd()) {
            flawed.push(Some(&name), None, flaw);
        }
        if raw_plans.is_none() {
            flawed.push(Some(&name), None, "has `plans` that are not a list");
        }
        let mut offering = Self {
            id,
            name,
            bindable: service.bindable.value(),
            bindings_retrievable: service.bindings_retrievable.value().unwrap_or(false),
            instances_retrievable: service.instances_retrievable.value().unwrap_or(false),
            plans: Vec::new(),
            flawed_plans: Vec::new(),
        };
        for plan in raw_plans.unwrap_or_default().0 {
            offering.take(plan.get(), flawed);
        }
        Some(offering)
    }

    /// Reads one plan. A plan without an id is recorded as flawed, and not kept.
    fn take(&mut self, text: &str, flawed: &mut Flawed) {
        let Ok(plan) = serde_json::from_str::<wire::PlanObject>(text) else {
            flawed.push(Some(&self.name), Some(None), "is not an object");
            return;
        };
        let flaw = match (&plan.id.0, &plan.name.0) {
            (None, _) => Some(NO_ID),
            (_, None) => Some(NO_NAME),
            _ if plan.bindable.is_odd() => Some("has a `bindable` that is neither true nor false"),
            _ => None,
        };
        let shown = plan.name.0.as_deref().or(plan.id.0.as_deref());
        if let Some(flaw) = flaw {
            flawed.push(Some(&self.name), Some(shown), flaw);
        }
        let Some(id) = plan.id.0 else { return };
        let entry = PlanEntry {
            name: plan.name.0.unwrap_or_else(|| id.clone()),
            id,
            flaw,
            bindable: plan.bindable.value(),
            rotatable: plan.binding_rotatable.value().unwrap_or(false),
            longest_operation: plan.maximum_polling_duration,
        };
        if flaw.is_none() { self.plans.push(entry) } else { self.flawed_plans.push(entry) }
    }

    /// An upper limit of the bytes that the offering takes in memory.
    fn size(&self) -> usize {
        /// Bytes of an offering or a plan, without its id and its name.
        const ENTRY: usize = 192;
        let plans = self.plans.iter().chain(&self.flawed_plans);
        let plans = plans.map(|plan| ENTRY + plan.id.len() + plan.name.len());
        ENTRY + self.id.len() + self.name.len() + plans.sum::<usize>()
    }
}

const NO_ID: &str = "has no `id` that is a string";
const NO_NAME: &str = "has no `name` that is a string";

/// The number of entries that can't be used, and a description of the first ones.
#[derive(Default)]
struct Flawed {
    count: usize,
    shown: Vec<String>,
}

impl Flawed {
    const SHOWN: usize = 5;

    /// `plan` is `None` if the offering itself is flawed, and `Some(None)` if the plan has no name.
    fn push(&mut self, offering: Option<&str>, plan: Option<Option<&str>>, flaw: &str) {
        self.count += 1;
        if self.count > Self::SHOWN {
            return;
        }
        let name = |name: Option<&str>| name.map_or_else(|| "without a name".to_owned(), shown_name);
        let offering = name(offering);
        self.shown.push(match plan {
            None => format!("offering {offering} {flaw}"),
            Some(plan) => format!("plan {} of offering {offering} {flaw}", name(plan)),
        });
    }

    fn message(&self) -> Option<String> {
        let more = match self.count.checked_sub(Self::SHOWN) {
            None | Some(0) => String::new(),
            Some(more) => format!(", and {more} more"),
        };
        (self.count > 0).then(|| {
            format!(
                "the broker's catalog contains entries that can't be used: {}{more}; ask the administrator of \
                 the broker to correct them",
                self.shown.join(", ")
            )
        })
    }
}

/// Finds an entry by its id, otherwise by its name. Ids are unique by the spec, so an id takes precedence over an equal
/// name.
fn find<'a, T>(entries: &'a [T], wanted: &str, keys: impl Fn(&T) -> (&str, &str)) -> Option<&'a T> {
    let by_id = entries.iter().find(|entry| keys(entry).0 == wanted);
    by_id.or_else(|| entries.iter().find(|entry| keys(entry).1 == wanted))
}

/// A name of an offering or a plan that the catalog does not contain.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// The id of the offering, if only the plan is unknown.
    pub(super) service_id: Option<String>,
    message: String,
}

impl Unknown {
    fn offering<'a>(offering: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let message =
            format!("the broker has no offering `{offering}`; {}", remedy("offering", "offerings", known));
        Self { service_id: None, message }
    }

    fn plan<'a>(offering: &str, service_id: &str, plan: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let message = format!(
            "the broker's offering `{offering}` has no plan `{plan}`; {}",
            remedy("plan", "plans of this offering", known)
        );
        Self { service_id: Some(service_id.to_owned()), message }
    }
}

impl From<Unknown> for BackendError {
    fn from(unknown: Unknown) -> Self {
        Self::new(ErrorClass::Gone, unknown.message)
    }
}

/// Sorts the names. Otherwise the message would change with each answer of a broker that does not keep their order.
fn remedy<'a>(field: &str, listed: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    match &*shown_names(names.into_iter().map(shown_name)) {
        [] => format!("the catalog lists no {listed}; ask the administrator of the broker"),
        [only] => format!("create the ServiceKey again with `instance.{field}` {only}"),
        names => {
            format!(
                "create the ServiceKey again with another `instance.{field}`: one of {}",
                names.join(", ")
            )
        }
    }
}

/// The cached catalog of one broker. Concurrent callers share one request.
pub(super) struct CatalogCache(SingleFlight<Catalog>);

impl Default for CatalogCache {
    fn default() -> Self {
        // A failure is not cached: the next caller sends another request.
        Self(SingleFlight::kept(|_| Duration::ZERO).counted(|catalog: &Catalog| catalog.held.as_ref()))
    }
}

impl CatalogCache {
    /// Returns a catalog that is younger than `age`, or that arrived while this call waited.
    async fn younger_than<F>(
        &self,
        age: Duration,
        fetch: impl FnOnce() -> F,
    ) -> Result<Arc<Catalog>, BackendError>
    where
        F: Future<Output = Result<Catalog, BackendError>>,
    {
        self.0.get(|known| known.since.elapsed() < age, fetch).await.map(|known| known.value)
    }

    /// Requests the catalog, even if the cached one is fresh.
    ///
    /// # Errors
    /// The errors of `fetch`.
    pub(super) async fn refresh<F>(&self, fetch: impl FnOnce() -> F) -> Result<(), BackendError>
    where
        F: Future<Output = Result<Catalog, BackendError>>,
    {
        self.younger_than(Duration::ZERO, fetch).await.map(drop)
    }

    /// Returns a catalog that is fresh enough.
    ///
    /// # Errors
    /// The errors of `fetch`.
    pub(super) async fn current<F>(&self, fetch: impl FnOnce() -> F) -> Result<Arc<Catalog>, BackendError>
    where
        F: Future<Output = Result<Catalog, BackendError>>,
    {
        self.younger_than(POSITIVE_TTL, fetch).await
    }

    /// Resolves a plan. For an unknown plan, it requests the catalog once more, unless the cached one is very new.
    ///
    /// # Errors
    /// The errors of `fetch`. The inner error is a plan that even a new catalog does not contain.
    pub(super) async fn resolve<F>(
        &self,
        offering: &str,
        plan: &str,
        fetch: impl Fn() -> F,
    ) -> Result<Result<CatalogPlan, Unknown>, BackendError>
    where
        F: Future<Output = Result<Catalog, BackendError>>,
    {
        let found = self.younger_than(POSITIVE_TTL, &fetch).await?.resolve(offering, plan);
        if found.is_ok() {
            return Ok(found);
        }
        Ok(self.younger_than(NEGATIVE_TTL, &fetch).await?.resolve(offering, plan))
    }

    /// The cached catalog, if it is fresh enough.
    pub(super) fn believed(&self) -> Option<Arc<Catalog>> {
        self.0.latest().filter(|known| known.since.elapsed() < POSITIVE_TTL).map(|known| known.value)
    }

    /// The last catalog that arrived, however old.
    pub(super) fn latest(&self) -> Option<Arc<Catalog>> {
        self.0.latest().map(|known| known.value)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::{FutureExt, future::join_all};
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::backend::MemoryBudget;

    fn catalog() -> Catalog {
        let body = json!({"services": [
            {"id": "s-1", "name": "db", "bindable": true, "bindings_retrievable": true, "plans": [
                {"id": "p-1", "name": "small"},
                {"id": "p-2", "name": "closed", "bindable": false},
            ]},
            {"id": "s-2", "name": "mail", "bindable": false, "plans": [
                {"id": "p-3", "name": "only", "bindable": true},
                {"id": "p-4", "name": "none"},
            ]},
            {"id": 7, "name": "broken"},
            {"id": "db", "name": "s-1", "plans": []},
        ], "unknown": 1});
        Catalog::read(body.to_string().as_bytes()).unwrap()
    }

    fn plan(service_id: &str, plan_id: &str, bindable: bool, retrievable: bool) -> CatalogPlan {
        CatalogPlan {
            name: String::new(),
            flaw: None,
            service_id: service_id.to_owned(),
            plan_id: plan_id.to_owned(),
            bindable,
            retrievable,
            rotatable: false,
            longest_operation: None,
        }
    }

    #[rstest]
    #[case("s-1", "p-1", plan("s-1", "p-1", true, true))]
    #[case("s-1", "small", plan("s-1", "p-1", true, true))]
    #[case("s-1", "closed", plan("s-1", "p-2", false, true))]
    #[case("mail", "only", plan("s-2", "p-3", true, false))]
    #[case("mail", "none", plan("s-2", "p-4", false, false))]
    fn resolves(#[case] offering: &str, #[case] wanted: &str, #[case] expected: CatalogPlan) {
        let found = catalog().resolve(offering, wanted).unwrap();
        assert_eq!(CatalogPlan { name: String::new(), ..found }, expected);
    }

    #[rstest]
    #[case(
        "none",
        "p-1",
        "the broker has no offering `none`; create the ServiceKey again with another `instance.offering`: one of `db`, \
         `mail`, `s-1`"
    )]
    #[case(
        "s-1",
        "big",
        "the broker's offering `s-1` has no plan `big`; create the ServiceKey again with another `instance.plan`: one \
         of `closed`, `small`"
    )]
    #[case(
        "db",
        "small",
        "the broker's offering `db` has no plan `small`; the catalog lists no plans of this offering; ask the \
         administrator of the broker"
    )]
    fn says_what_there_is_instead(#[case] offering: &str, #[case] wanted: &str, #[case] message: &str) {
        let error = BackendError::from(catalog().resolve(offering, wanted).unwrap_err());
        assert_eq!((error.class, &*error.message), (ErrorClass::Gone, message));
    }

    #[rstest]
    #[case::text_for_a_flag(json!({"id": "p-2", "name": "odd", "bindable": "true"}), "odd", Some("p-2"), "plan `odd`")]
    #[case::number_for_a_flag(json!({"id": "p-2", "name": "odd", "bindable": 1}), "odd", Some("p-2"), "`bindable`")]
    #[case::no_name(json!({"id": "p-2"}), "p-2", Some("p-2"), "plan `p-2` of offering `db` has no `name`")]
    #[case::null_for_a_name(json!({"id": "p-2", "name": null}), "p-2", Some("p-2"), "has no `name` that is a string")]
    #[case::numeric_id(json!({"id": 7, "name": "odd"}), "odd", None, "plan `odd` of offering `db` has no `id`")]
    #[case::no_object(json!("odd"), "odd", None, "plan without a name of offering `db` is not an object")]
    #[case::long_name(json!({"id": "p-2", "name": "n".repeat(2000)}), "p-2", Some("p-2"), "has no `name`")]
    fn an_odd_plan_hides_no_other(
        #[case] odd: serde_json::Value,
        #[case] name: &str,
        #[case] id: Option<&str>,
        #[case] words: &str,
    ) {
        let plans = json!([odd, {"id": "p-1", "name": "small"}, {"id": "p-3", "name": "large"}]);
        let body = json!({"services": [{"id": "s-1", "name": "db", "bindable": true, "plans": plans}]});
        let catalog = Catalog::read(body.to_string().as_bytes()).unwrap();
        assert!(catalog.resolve("db", "small").unwrap().bindable);
        assert!(catalog.resolve("db", "large").unwrap().bindable);
        let found = catalog.resolve("db", name);
        assert_eq!(found.as_ref().ok().map(|plan| &*plan.plan_id), id, "its keys can be revoked");
        assert!(found.is_err() || found.is_ok_and(|plan| !plan.bindable), "no keys are created");
        assert!(catalog.shortcomings().unwrap().contains(words), "{:?}", catalog.shortcomings());
    }

    #[test]
    fn an_odd_plan_does_not_take_the_place_of_a_sound_one() {
        let plans = json!([{"id": "p-2", "name": "small", "bindable": "no"}, {"id": "p-1", "name": "small"}]);
        let body = json!({"services": [{"id": "s-1", "name": "db", "plans": plans}]});
        let catalog = Catalog::read(body.to_string().as_bytes()).unwrap();
        assert_eq!(catalog.resolve("db", "small").unwrap().plan_id, "p-1");
    }

    #[rstest]
    #[case(json!({"plans": null}), "offering `odd` has `plans` that are not a list")]
    #[case(json!({"plans": {}}), "offering `odd` has `plans` that are not a list")]
    #[case(json!({"plans": [], "bindable": "yes"}), "offering `odd` has a `bindable` that is neither true nor false")]
    #[case(json!({"plans": [], "id": 7}), "offering `odd` has no `id` that is a string")]
    #[case(json!({"plans": [], "name": {}}), "offering `s-2` has no `name` that is a string")]
    fn an_odd_offering_hides_no_other(#[case] odd: serde_json::Value, #[case] words: &str) {
        let mut service = json!({"id": "s-2", "name": "odd"});
        service.as_object_mut().unwrap().extend(odd.as_object().unwrap().clone());
        let sound = json!({"id": "s-1", "name": "db", "plans": [{"id": "p-1", "name": "small"}]});
        let body = json!({"services": [service, sound]});
        let catalog = Catalog::read(body.to_string().as_bytes()).unwrap();
        assert!(catalog.resolve("db", "small").is_ok());
        assert!(catalog.shortcomings().unwrap().contains(words), "{:?}", catalog.shortcomings());
    }

    #[test]
    fn a_message_about_odd_entries_is_bounded() {
        let plans: Vec<_> =
            (0..1000).map(|_| json!({"id": "i", "name": "n".repeat(1000), "bindable": 0})).collect();
        let body = json!({"services": [{"id": "s-1", "name": "n".repeat(1000), "plans": plans}]});
        let message = Catalog::read(body.to_string().as_bytes()).unwrap().shortcomings().unwrap();
        assert!(message.len() < 2000 && message.contains("and 995 more"), "{message}");
        assert_eq!(
            catalog().shortcomings().unwrap().matches("offering").count(),
            1,
            "the offering with a numeric id"
        );
    }

    #[rstest]
    #[case("")]
    #[case("{}")]
    #[case(r#"{"services": {}}"#)]
    fn what_is_no_catalog_is_not_read(#[case] body: &str) {
        assert_eq!(Catalog::read(body.as_bytes()).err(), Some("is not a catalog"));
    }

    #[rstest]
    #[case::few(10_000, true)]
    #[case::many(11_000, false)]
    fn what_is_kept_of_a_catalog_has_a_bound(#[case] services: usize, #[case] read: bool) {
        let service = json!({"id": "i", "name": "n", "plans": [], "metadata": vec!["x"; 100]});
        let body = json!({"services": vec![service; services]}).to_string();
        assert_eq!(Catalog::read(body.as_bytes()).is_ok(), read);
    }

    #[test]
    fn long_names_fill_a_catalog() {
        let plans: Vec<_> =
            (0..3000).map(|n| json!({"id": n.to_string(), "name": "n".repeat(1000)})).collect();
        let body = json!({"services": [{"id": "i", "name": "n", "plans": plans}]}).to_string();
        assert_eq!(Catalog::read(body.as_bytes()).err(), Some("contains more than 2 MiB of ids and names"));
    }

    #[test]
    fn a_catalog_that_others_need_the_room_of_is_forgotten() {
        let size = catalog().size;
        let budget = MemoryBudget::new(size + 600, size + 600);
        let cache = CatalogCache::default();
        let kept = catalog().held(&budget.share("a")).unwrap();
        drop(cache.refresh(|| async { Ok(kept) }).now_or_never().unwrap());
        let _room = budget.share("b").keep(500, ()).unwrap();
        assert!(cache.latest().is_some(), "the memory suffices for both");
        assert!(budget.share("c").keep(size + 100, ()).is_err());
        assert!(cache.latest().is_some(), "a larger holder can't take memory from a smaller one");
        let _more = budget.share("c").keep(200, ()).unwrap();
        assert!(cache.latest().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn is_asked_for_again_when_it_is_old_or_doubted() {
        let (cache, calls) = (CatalogCache::default(), Cell::new(0));
        let fetch = || async {
            calls.set(calls.get() + 1);
            Ok(catalog())
        };
        let unknown = async || cache.resolve("s-1", "p", fetch).await.map(drop);
        let ok = async || cache.resolve("s-1", "small", fetch).await.unwrap().map(drop);
        ok().await.unwrap();
        ok().await.unwrap();
        assert_eq!(calls.get(), 1, "cached");
        unknown().await.unwrap();
        assert_eq!(calls.get(), 1, "too new for another request");
        tokio::time::advance(NEGATIVE_TTL).await;
        unknown().await.unwrap();
        unknown().await.unwrap();
        assert_eq!(calls.get(), 2, "requested once more");
        tokio::time::advance(POSITIVE_TTL).await;
        ok().await.unwrap();
        assert_eq!(calls.get(), 3, "expired");
    }

    #[rstest]
    #[case(true)]
    #[case(false)]
    #[tokio::test(start_paused = true)]
    async fn one_asks_for_all(#[case] succeeds: bool) {
        let (cache, calls) = (CatalogCache::default(), AtomicUsize::new(0));
        let fetch = || async {
            calls.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            if succeeds { Ok(catalog()) } else { Err(BackendError::new(ErrorClass::Transient, "down")) }
        };
        let outcomes = join_all((0..50).map(|_| cache.resolve("s-1", "small", fetch))).await;
        assert!(outcomes.iter().all(|outcome| outcome.is_ok() == succeeds));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_not_kept_for_those_who_come_later() {
        let cache = CatalogCache::default();
        let down = || async { Err(BackendError::new(ErrorClass::Transient, "down")) };
        cache.resolve("s-1", "small", down).await.unwrap_err();
        tokio::time::advance(Duration::from_millis(1)).await;
        cache.resolve("s-1", "small", || async { Ok(catalog()) }).await.unwrap().unwrap();
    }
}
