//! The operator on a real API server, against a strict fake broker and brokers from elsewhere: one file per capability.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod a_broker_in_trouble_is_reported_and_survived;
mod a_broker_may_take_its_time;
mod a_changed_login_takes_effect;
mod a_cluster_provider_admits_namespaces;
mod a_foreign_secret_is_left_alone;
mod a_key_becomes_a_secret;
mod a_login_by_client_credentials;
mod a_namespace_with_keys_can_be_deleted;
mod a_restart_takes_up_every_key;
mod a_slow_provider_slows_only_its_own_keys;
mod a_token_server_in_trouble_costs_no_key;
mod an_outage_of_the_api_server_costs_nothing;
mod brokers_from_elsewhere;
mod cloud_foundry_crashes_leave_one_key;
mod cloud_foundry_keys_are_adopted;
mod cloud_foundry_keys_become_secrets;
mod cloud_foundry_keys_cost_little;
mod cloud_foundry_lost_keys_are_replaced;
mod cloud_foundry_orphans_are_found;
mod cloud_foundry_refusals_are_told;
mod conditions;
mod crashes_leave_one_key;
mod database;
mod deletion_waits_for_the_provider;
mod each_key_costs_little;
mod each_key_is_revoked_by_one_call;
mod elsewhere;
mod evidence;
mod foundry;
mod names_and_sizes_may_be_odd;
mod nothing_is_silently_ignored;
mod process;
mod providers_report_themselves;
mod random_crashes_leave_one_key_each;
mod secrets_stay_secret;
mod sigterm_ends_the_operator;
mod stage;
mod the_api_server_refuses_bad_manifests;
mod the_broker_tells_what_an_instance_is_of;
mod the_credentials_log_in_to_a_real_database;
mod the_secret_is_repaired;
mod time;
mod tls_is_checked;
mod what_keys_need_is_held;
