//! The shapes of resources, by the API's documentation.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::estate::{Kind, Organization, Space},
    Place, State, Stored,
};

/// The creation time of all initial objects.
const THEN: &str = "2020-03-10T15:49:29Z";

impl State {
    /// `GET /`.
    pub(crate) fn root(&self) -> Value {
        let link = |href: String| json!({ "href": href });
        if self.korifi {
            return self.root_of_korifi();
        }
        json!({ "links": {
            "self": link(self.api.clone()),
            "bits_service": null,
            "cloud_controller_v2": null,
            "cloud_controller_v3": { "href": self.url("/v3"), "meta": { "version": "3.195.0" } },
            "network_policy_v0": link(self.url("/networking/v0/external")),
            "network_policy_v1": link(self.url("/networking/v1/external")),
            "login": link(self.uaa.clone()),
            "uaa": link(self.uaa.clone()),
            "credhub": null,
            "routing": link(self.url("/routing")),
            "logging": link("wss://doppler.example.org:443".into()),
            "log_cache": link("https://log-cache.example.org".into()),
            "log_stream": link("https://log-stream.example.org".into()),
            "app_ssh": {
                "href": "ssh.example.org:2222",
                "meta": {
                    "host_key_fingerprint": "Y411oivJwZCUQnXHq83mdM5SKCK4ftyoSXI31RRe4Zs",
                    "oauth_client": "ssh-proxy",
                },
            },
        }})
    }

    fn root_of_korifi(&self) -> Value {
        let link = |href: String, version: &str| json!({ "href": href, "meta": { "version": version } });
        let nothing =
            ["bits_service", "cloud_controller_v2", "network_policy_v0", "network_policy_v1", "uaa"];
        let nothing = nothing.into_iter().chain(["credhub", "routing", "logging", "log_stream", "app_ssh"]);
        let mut links: serde_json::Map<_, _> = nothing.map(|name| (name.to_owned(), Value::Null)).collect();
        links.insert("self".into(), link(self.api.clone(), ""));
        links.insert("login".into(), link(self.api.clone(), ""));
        links.insert("cloud_controller_v3".into(), link(self.url("/v3"), "3.117.0+cf-k8s"));
        json!({ "links": links, "cf_on_k8s": true })
    }

    pub(super) fn api_root(&self) -> Value {
        let resources =
            ["organizations", "spaces", "service_instances", "service_credential_bindings", "jobs"];
        let links = resources.map(|name| (name.to_owned(), self.href(&format!("/v3/{name}"))));
        let own = ("self".to_owned(), self.href("/v3"));
        json!({ "links": serde_json::Map::from_iter(links.into_iter().chain([own])) })
    }

    pub(super) fn show_organization(&self, organization: &Organization) -> Value {
        let Organization { guid, name, .. } = organization;
        let path = format!("/v3/organizations/{guid}");
        let quota = format!("quota-of-{guid}");
        json!({
            "guid": guid,
            "created_at": THEN,
            "updated_at": THEN,
            "name": name,
            "suspended": false,
            "relationships": { "quota": { "data": { "guid": quota } } },
            "metadata": { "labels": {}, "annotations": {} },
            "links": {
                "self": self.href(&path),
                "domains": self.href(&format!("{path}/domains")),
                "default_domain": self.href(&format!("{path}/domains/default")),
                "quota": self.href(&format!("/v3/organization_quotas/{quota}")),
            },
        })
    }

    pub(super) fn show_space(&self, organization: &Organization, space: &Space) -> Value {
        let Space { guid, name, .. } = space;
        let path = format!("/v3/spaces/{guid}");
        json!({
            "guid": guid,
            "created_at": THEN,
            "updated_at": THEN,
            "name": name,
            "relationships": {
                "organization": { "data": { "guid": organization.guid } },
                "quota": { "data": null },
            },
            "metadata": { "labels": {}, "annotations": {} },
            "links": {
                "self": self.href(&path),
                "features": self.href(&format!("{path}/features")),
                "organization": self.href(&format!("/v3/organizations/{}", organization.guid)),
                "apply_manifest": {
                    "href": self.url(&format!("{path}/actions/apply_manifest")),
                    "method": "POST",
                },
            },
        })
    }

    pub(super) fn show_instance(&self, place: Place<'_>) -> Value {
        let Place { organization: _, space, instance } = place;
        let guid = &instance.guid;
        let path = format!("/v3/service_instances/{guid}");
        let mut shown = json!({
            "guid": guid,
            "created_at": THEN,
            "updated_at": THEN,
            "name": instance.name,
            "tags": [],
            "type": instance.type_name(),
            "last_operation": {
                "type": instance.operation.kind,
                "state": instance.operation.state.name(),
                "description": "",
                "created_at": THEN,
                "updated_at": THEN,
            },
            "relationships": { "space": { "data": { "guid": space.guid } } },
            "metadata": { "labels": {}, "annotations": {} },
            "links": {
                "self": self.href(&path),
                "space": self.href(&format!("/v3/spaces/{}", space.guid)),
                "service_credential_bindings":
                    self.href(&format!("/v3/service_credential_bindings?service_instance_guids={guid}")),
                "service_route_bindings":
                    self.href(&format!("/v3/service_route_bindings?service_instance_guids={guid}")),
            },
        });
        match instance.kind {
            Kind::Managed { .. } => {
                let plan = format!("plan-of-{guid}");
                shown["maintenance_info"] = json!({ "version": "1.0.0" });
                shown["upgrade_available"] = json!(false);
                shown["dashboard_url"] = json!("https://service-broker.example.org/dashboard");
                shown["links"]["service_plan"] = self.href(&format!("/v3/service_plans/{plan}"));
                shown["links"]["parameters"] = self.href(&format!("{path}/parameters"));
                shown["links"]["shared_spaces"] = self.href(&format!("{path}/relationships/shared_spaces"));
                shown["relationships"]["service_plan"] = json!({ "data": { "guid": plan } });
            }
            Kind::UserProvided => {
                shown["syslog_drain_url"] = json!("https://logs.example.com");
                shown["route_service_url"] = json!("https://routes.example.com");
                shown["links"]["credentials"] = self.href(&format!("{path}/credentials"));
            }
        }
        shown
    }

    pub(super) fn show_key(&self, stored: &Stored) -> Value {
        let Stored { key, created_at, updated_at, effort: _ } = stored;
        let path = format!("/v3/service_credential_bindings/{}", key.guid);
        json!({
            "guid": key.guid,
            "created_at": shown_time(*created_at),
            "updated_at": shown_time(*updated_at),
            "name": key.name,
            "type": "key",
            "last_operation": {
                "type": key.last_operation.work.name(),
                "state": key.last_operation.state.name(),
                "description": key.last_operation.description,
                "created_at": shown_time(*created_at),
                "updated_at": shown_time(*updated_at),
            },
            "metadata": { "labels": key.labels, "annotations": key.annotations },
            "relationships": { "service_instance": { "data": { "guid": key.instance } } },
            "links": {
                "self": self.href(&path),
                "details": self.href(&format!("{path}/details")),
                "parameters": self.href(&format!("{path}/parameters")),
                "service_instance": self.href(&format!("/v3/service_instances/{}", key.instance)),
            },
        })
    }

    pub(super) fn href(&self, path: &str) -> Value {
        json!({ "href": self.url(path) })
    }
}

/// A timestamp as the API writes it: in UTC, without fractions of a second.
pub(super) fn shown_time(timestamp: Timestamp) -> String {
    format!("{timestamp:.0}")
}
