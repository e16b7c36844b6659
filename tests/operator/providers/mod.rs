//! Providers and their logins, the limits on requests, TLS, and brokers with habits of their own.

mod a_broker_may_take_its_time;
mod a_changed_login_takes_effect;
mod a_cluster_provider_admits_namespaces;
mod a_login_by_client_credentials;
mod a_refused_login_is_left_alone;
mod a_slow_provider_slows_only_its_own_keys;
mod a_token_server_in_trouble_costs_no_key;
mod brokers_demand_more;
mod brokers_from_elsewhere;
mod catalogs_may_change;
mod providers_report_themselves;
mod the_broker_tells_what_an_instance_is_of;
mod tls_is_checked;
