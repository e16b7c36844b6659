//! ServiceKeys, namespaces and providers are deleted in any order: every key is revoked, and nothing stays behind.

mod a_deletion_policy_may_change_late;
mod a_namespace_can_be_deleted_in_any_order;
mod a_namespace_with_keys_can_be_deleted;
mod a_secret_may_outlive_its_service_key;
mod deletion_waits_for_the_provider;
mod each_key_is_revoked_by_one_call;
mod keys_of_vanished_service_keys_are_revoked;
mod logins_of_lost_providers_are_released;
mod what_keys_need_is_held;
