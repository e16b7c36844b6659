//! Keys of IBM Cloud, against the fake IBM Cloud of the test kit.

mod ibm_cloud_answers_may_be_lost;
mod ibm_cloud_instances_may_be_gone;
mod ibm_cloud_keys_are_adopted;
mod ibm_cloud_keys_become_secrets;
mod ibm_cloud_keys_cost_little;
mod ibm_cloud_keys_have_access_of_their_own;
mod ibm_cloud_orphans_are_found;
mod ibm_cloud_refusals_are_told;
