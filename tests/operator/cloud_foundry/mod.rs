//! Keys of Cloud Foundry, against the fake Cloud Foundry of the test kit.

mod cloud_foundry_answers_may_be_lost;
mod cloud_foundry_jobs_may_fail;
mod cloud_foundry_keys_are_adopted;
mod cloud_foundry_keys_become_secrets;
mod cloud_foundry_keys_cost_little;
mod cloud_foundry_lost_keys_are_replaced;
mod cloud_foundry_orphans_are_found;
mod cloud_foundry_refusals_are_told;
mod keys_of_a_korifi;
