//! The query parameters of lists and look-ups.

use std::collections::BTreeMap;

use axum::http::Uri;
use percent_encoding::percent_decode_str;

use super::{answer::Refusal, record::Rule, route::Route, selector::Selector};
use crate::remote::reading;

const DEFAULT_PER_PAGE: usize = 50;
const MAX_PER_PAGE: usize = 5000;

/// The query parameters of a route that the fake supports. The API has more.
struct Schema {
    /// Filters whose value is a list of strings.
    lists: &'static [&'static str],
    /// The valid values of the filter `type`, if there is one.
    types: &'static [&'static str],
    includes: &'static [&'static str],
    /// Whether the route has pages, an order and a selector.
    is_list: bool,
}

impl Schema {
    const NONE: Self = Self { lists: &[], types: &[], includes: &[], is_list: false };

    const fn of(route: Route) -> Self {
        match route {
            Route::Organizations => Self { lists: &["names", "guids"], is_list: true, ..Self::NONE },
            Route::Spaces => Self {
                lists: &["names", "guids", "organization_guids"],
                includes: &["organization"],
                is_list: true,
                ..Self::NONE
            },
            Route::Instances => Self {
                lists: &["names", "guids", "space_guids", "organization_guids"],
                types: &["managed", "user-provided"],
                is_list: true,
                ..Self::NONE
            },
            Route::Keys => Self {
                lists: &["names", "guids", "service_instance_guids", "service_instance_names"],
                types: &["app", "key"],
                includes: &["app", "service_instance"],
                is_list: true,
            },
            Route::Key => Self { includes: &["app", "service_instance"], ..Self::NONE },
            _ => Self::NONE,
        }
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names = self.lists.to_vec();
        if !self.types.is_empty() {
            names.push("type");
        }
        if !self.includes.is_empty() {
            names.push("include");
        }
        if self.is_list {
            names.extend(["label_selector", "page", "per_page", "order_by"]);
        }
        names
    }
}

/// The query of a list or look-up.
#[derive(Clone, Debug)]
pub(super) struct ListQuery {
    filters: BTreeMap<String, Vec<String>>,
    pub selector: Option<Selector>,
    pub includes: Vec<String>,
    pub order: Order,
    pub page: usize,
    pub per_page: usize,
    /// All parameters except the page, as the client sent them, for links to other pages.
    pub sent: BTreeMap<String, String>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub by: OrderBy,
    pub descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderBy {
    CreatedAt,
    UpdatedAt,
    Name,
}

impl ListQuery {
    /// Reads the query of a call.
    pub(super) fn read(uri: &Uri, route: Route) -> Result<Self, Refusal> {
        let schema = Schema::of(route);
        let pairs = reading::query(uri, &schema.names()).map_err(bad)?;
        let mut query = Self {
            filters: BTreeMap::new(),
            selector: None,
            includes: Vec::new(),
            order: Order { by: OrderBy::CreatedAt, descending: false },
            page: 1,
            per_page: DEFAULT_PER_PAGE,
            sent: pairs.clone(),
        };
        query.sent.retain(|name, _| name != "page" && name != "per_page");
        for (name, value) in pairs {
            query.take(&schema, name, &value)?;
        }
        Ok(query)
    }

    /// Whether this value matches the filter of this name, if there is one.
    pub(super) fn admits(&self, filter: &str, value: &str) -> bool {
        self.filters.get(filter).is_none_or(|values| values.iter().any(|wanted| wanted == value))
    }

    pub(super) fn includes(&self, resource: &str) -> bool {
        self.includes.iter().any(|included| included == resource)
    }

    fn take(&mut self, schema: &Schema, name: String, value: &str) -> Result<(), Refusal> {
        match name.as_str() {
            "page" => self.page = positive("Page", value)?,
            "per_page" => {
                self.per_page = positive("Per page", value)?;
                if self.per_page > MAX_PER_PAGE {
                    let detail = format!("Per page must be between 1 and {MAX_PER_PAGE}");
                    return Err(Refusal::bad_query(Rule::PerPage, detail));
                }
            }
            "order_by" => self.order = order(value)?,
            "label_selector" => {
                let selector = Selector::parse(value);
                self.selector =
                    Some(selector.map_err(|error| bad(format!("Invalid label_selector value: {error}")))?);
            }
            "include" => self.includes = one_of("Invalid included resource", schema.includes, value)?,
            "type" => {
                let types = one_of("Type must be one of these, not", schema.types, value)?;
                self.filters.insert(name, types);
            }
            _ => {
                self.filters.insert(name, list(value));
            }
        }
        Ok(())
    }
}

fn bad(detail: String) -> Refusal {
    Refusal::bad_query(Rule::Query, detail)
}

fn positive(name: &str, value: &str) -> Result<usize, Refusal> {
    value
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Refusal::bad_query(Rule::PerPage, format!("{name} must be a positive integer")))
}

/// The values of a list. The API decodes each value once more than the query, so that a value can contain a comma.
fn list(value: &str) -> Vec<String> {
    value
        .split(',')
        .map(|value| percent_decode_str(value.trim_start()).decode_utf8_lossy().into_owned())
        .collect()
}

fn one_of(error: &str, known: &[&str], value: &str) -> Result<Vec<String>, Refusal> {
    let values = list(value);
    match values.iter().find(|value| !known.contains(&value.as_str())) {
        None => Ok(values),
        Some(unknown) => Err(bad(format!("{error}: '{unknown}'. Valid values are: {known:?}"))),
    }
}

fn order(value: &str) -> Result<Order, Refusal> {
    let descending = value.starts_with('-');
    let by = match value.strip_prefix(['-', '+']).unwrap_or(value) {
        "created_at" => OrderBy::CreatedAt,
        "updated_at" => OrderBy::UpdatedAt,
        "name" => OrderBy::Name,
        _ => return Err(bad("Order by can only be: 'created_at', 'updated_at', 'name'".into())),
    };
    Ok(Order { by, descending })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<ListQuery, Rule> {
        let uri = format!("http://api/v3/service_credential_bindings?{query}").parse().unwrap();
        ListQuery::read(&uri, Route::Keys)
            .map_err(|refusal| refusal.breach.map_or(Rule::Query, |(rule, _)| rule))
    }

    #[test]
    fn a_value_of_a_list_holds_a_comma_that_is_escaped_twice() {
        let query = read("names=a%252Cb,%20c").unwrap();
        assert!(query.admits("names", "a,b") && query.admits("names", "c"));
        assert!(!query.admits("names", "a"));
        assert!(query.admits("guids", "anything"));
    }

    #[test]
    fn pages_have_1_to_5000_resources() {
        let query = read("per_page=5000&page=3").unwrap();
        assert_eq!((query.per_page, query.page, query.sent.len()), (5000, 3, 0));
        for wrong in ["per_page=0", "per_page=5001", "per_page=x", "page=0", "page=-1"] {
            assert_eq!(read(wrong).unwrap_err(), Rule::PerPage, "{wrong}");
        }
    }

    #[test]
    fn what_the_api_does_not_know_is_refused() {
        for wrong in ["name=a", "names=", "names=a&names=b", "type=service", "include=space", "order_by=guid"]
        {
            assert_eq!(read(wrong).unwrap_err(), Rule::Query, "{wrong}");
        }
        assert_eq!(read("label_selector=a=").unwrap_err(), Rule::Query);
    }
}
