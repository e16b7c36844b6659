//! Lists: the objects that the caller may see, in pages.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{
    super::{
        query::{ListQuery, Order, OrderBy},
        uaa::Session,
    },
    Answer, Answered, ApiError, Place, State, Stored,
};

const ORGANIZATIONS: &str = "/v3/organizations";
const SPACES: &str = "/v3/spaces";
const INSTANCES: &str = "/v3/service_instances";
const KEYS: &str = "/v3/service_credential_bindings";

impl State {
    pub(super) fn list_organizations(&self, query: &ListQuery, session: &Session) -> Answer {
        let mut found: Vec<_> = self
            .organizations
            .iter()
            .filter(|organization| {
                let readable = |name: &str| session.access.role_in(name).may_read();
                organization.spaces.iter().any(|space| readable(&space.name))
                    && query.admits("names", &organization.name)
                    && query.admits("guids", &organization.guid)
                    && unlabelled(query)
            })
            .collect();
        sort_by_name(&mut found, query.order, |organization| &organization.name);
        let (found, pagination) = self.page(ORGANIZATIONS, query, found);
        let resources: Vec<_> =
            found.into_iter().map(|organization| self.show_organization(organization)).collect();
        Answer::ok(json!({ "pagination": pagination, "resources": resources }))
    }

    pub(super) fn list_spaces(&self, query: &ListQuery, session: &Session) -> Answer {
        let mut found: Vec<_> = self
            .spaces()
            .filter(|(organization, space)| {
                session.access.role_in(&space.name).may_read()
                    && query.admits("names", &space.name)
                    && query.admits("guids", &space.guid)
                    && query.admits("organization_guids", &organization.guid)
                    && unlabelled(query)
            })
            .collect();
        sort_by_name(&mut found, query.order, |(_, space)| &space.name);
        let (found, pagination) = self.page(SPACES, query, found);
        let resources: Vec<_> =
            found.iter().map(|(organization, space)| self.show_space(organization, space)).collect();
        let mut body = json!({ "pagination": pagination, "resources": resources });
        if query.includes("organization") {
            let organizations =
                distinct(found.iter().map(|(organization, _)| self.show_organization(organization)));
            body["included"] = json!({ "organizations": organizations });
        }
        Answer::ok(body)
    }

    pub(super) fn list_instances(&self, query: &ListQuery, session: &Session) -> Answer {
        let mut found: Vec<_> = self
            .instances()
            .filter(|place| self.may_read(*place, session) && self.is_wanted(*place, query))
            .collect();
        sort_by_name(&mut found, query.order, |place| &place.instance.name);
        let (found, pagination) = self.page(INSTANCES, query, found);
        let resources: Vec<_> = found.into_iter().map(|place| self.show_instance(place)).collect();
        Answer::ok(json!({ "pagination": pagination, "resources": resources }))
    }

    fn is_wanted(&self, place: Place<'_>, query: &ListQuery) -> bool {
        let is_in_space =
            self.spaces_with(place).iter().any(|space| query.admits("space_guids", &space.guid));
        query.admits("names", &place.instance.name)
            && query.admits("guids", &place.instance.guid)
            && is_in_space
            && query.admits("organization_guids", &place.organization.guid)
            && query.admits("type", place.instance.type_name())
            && unlabelled(query)
    }

    pub(super) fn fetch_instance(&self, guid: &str, session: &Session) -> Answered {
        let place = self.readable(guid, session);
        let place = place.ok_or_else(|| ApiError::resource_not_found("Service instance not found"))?;
        Ok(Answer::ok(self.show_instance(place)))
    }

    pub(super) fn list_keys(&mut self, query: &ListQuery, session: &Session) -> Answer {
        let mut found: Vec<_> =
            self.keys.values().filter(|stored| self.key_is_wanted(stored, query, session)).collect();
        sort_keys(&mut found, query.order);
        let (found, pagination) = self.page(KEYS, query, found);
        let guids: Vec<_> = found.into_iter().map(|stored| stored.key.guid.clone()).collect();
        for guid in &guids {
            self.look(guid);
        }
        // A look may end a deletion, so the key may be gone.
        let found: Vec<_> = guids.iter().filter_map(|guid| self.stored(guid)).collect();
        let resources: Vec<_> = found.iter().map(|stored| self.show_key(stored)).collect();
        let mut body = json!({ "pagination": pagination, "resources": resources });
        if let Some(included) = self.included(query, &found) {
            body["included"] = included;
        }
        Answer::ok(body)
    }

    fn key_is_wanted(&self, stored: &Stored, query: &ListQuery, session: &Session) -> bool {
        let key = &stored.key;
        let admits = query.admits("type", "key")
            && query.admits("names", &key.name)
            && query.admits("guids", &key.guid)
            && query.admits("service_instance_guids", &key.instance)
            && query.selector.as_ref().is_none_or(|selector| selector.selects(&key.labels));
        // A role in a space that the instance is only shared into is not enough.
        admits
            && self.place(&key.instance).is_some_and(|place| {
                session.access.role_in(&place.space.name).may_read()
                    && query.admits("service_instance_names", &place.instance.name)
            })
    }

    /// The objects that `include` adds to keys.
    pub(super) fn included(&self, query: &ListQuery, keys: &[&Stored]) -> Option<Value> {
        let mut included = serde_json::Map::new();
        if query.includes("app") {
            included.insert("apps".into(), json!([]));
        }
        if query.includes("service_instance") {
            let places = keys.iter().filter_map(|stored| self.place(&stored.key.instance));
            let instances = distinct(places.map(|place| self.show_instance(place)));
            included.insert("service_instances".into(), json!(instances));
        }
        (!included.is_empty()).then(|| included.into())
    }

    /// One page of the results, and the page's links and totals.
    fn page<T>(&self, path: &str, query: &ListQuery, found: Vec<T>) -> (Vec<T>, Value) {
        let per_page = query.per_page.min(self.page_limit.unwrap_or(usize::MAX));
        let (total, pages) = (found.len(), found.len().div_ceil(per_page).max(1));
        let link = |page: usize| {
            let pairs = query.sent.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let (page, per_page) = (page.to_string(), per_page.to_string());
            let pages = [("page", page.as_str()), ("per_page", per_page.as_str())];
            let query =
                form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs.chain(pages)).finish();
            json!({ "href": format!("{}?{query}", self.url(path)) })
        };
        let pagination = json!({
            "total_results": total,
            "total_pages": pages,
            "first": link(1),
            "last": link(pages),
            "next": (query.page < pages).then(|| link(query.page + 1)),
            "previous": (query.page > 1).then(|| link(query.page - 1)),
        });
        let start = per_page.saturating_mul(query.page - 1);
        (found.into_iter().skip(start).take(per_page).collect(), pagination)
    }
}

/// Only keys have labels in the fake.
fn unlabelled(query: &ListQuery) -> bool {
    query.selector.as_ref().is_none_or(|selector| selector.selects(&std::collections::BTreeMap::new()))
}

/// The results are in the order of their creation.
fn sort_by_name<T>(found: &mut [T], order: Order, name: impl Fn(&T) -> &str) {
    if order.by == OrderBy::Name {
        found.sort_by(|a, b| name(a).cmp(name(b)));
    }
    if order.descending {
        found.reverse();
    }
}

fn sort_keys(found: &mut [&Stored], order: Order) {
    found.sort_by(|a, b| match order.by {
        OrderBy::CreatedAt => Ordering::Equal,
        OrderBy::UpdatedAt => a.updated_at.cmp(&b.updated_at),
        OrderBy::Name => a.key.name.cmp(&b.key.name),
    });
    if order.descending {
        found.reverse();
    }
}

fn distinct(shown: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut distinct = Vec::new();
    for resource in shown {
        if !distinct.contains(&resource) {
            distinct.push(resource);
        }
    }
    distinct
}
