//! From `kubectl apply` to a Secret: the spec and its rules, the cost of a key, and how tools read its status.

mod a_key_becomes_a_secret;
mod a_key_moves_without_a_gap;
mod a_suspended_key_is_left_alone;
mod each_key_costs_little;
mod names_and_sizes_may_be_odd;
mod nothing_is_silently_ignored;
mod restored_service_keys_go_on;
mod the_api_server_refuses_bad_manifests;
mod the_credentials_log_in_to_a_real_database;
mod tools_read_the_status;
