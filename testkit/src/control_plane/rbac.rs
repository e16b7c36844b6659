//! Permissions for the users of a plane. Each one is in force when the call returns.

use std::time::Duration;

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, RoleRef, Subject},
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep};

use super::{ControlPlane, Error, User};

/// The time limit for a grant to be in force, in seconds.
const GRANT_SECONDS: u64 = 30;
/// The time between two checks.
const PAUSE: Duration = Duration::from_millis(20);

impl ControlPlane {
    /// Grants the user all permissions.
    ///
    /// # Errors
    /// As [`grant`](Self::grant).
    pub async fn grant_cluster_admin(&self, user: &User) -> Result<(), Error> {
        self.grant(user, "cluster-admin").await
    }

    /// Binds the user to a ClusterRole, for the whole cluster.
    ///
    /// # Errors
    /// The role does not exist, or the grant is not in force within 30 s.
    pub async fn grant(&self, user: &User, cluster_role: &str) -> Result<(), Error> {
        let binding = ClusterRoleBinding {
            metadata: generated_name(user),
            role_ref: role_ref(cluster_role),
            subjects: Some(vec![subject(user)]),
        };
        Api::all(self.admin())
            .create(&PostParams::default(), &binding)
            .await
            .map_err(Error::kubernetes(format!("grant `{cluster_role}`")))?;
        self.until_in_force(user, cluster_role, None).await
    }

    /// Binds the user to a ClusterRole, for one namespace.
    ///
    /// # Errors
    /// As [`grant`](Self::grant).
    pub async fn grant_in(&self, namespace: &str, user: &User, cluster_role: &str) -> Result<(), Error> {
        let binding = RoleBinding {
            metadata: generated_name(user),
            role_ref: role_ref(cluster_role),
            subjects: Some(vec![subject(user)]),
        };
        Api::namespaced(self.admin(), namespace)
            .create(&PostParams::default(), &binding)
            .await
            .map_err(Error::kubernetes(format!("grant `{cluster_role}`")))?;
        self.until_in_force(user, cluster_role, Some(namespace)).await
    }

    /// Waits until a ClusterRole is in force. The controller manager, if there is one, may still have to fill it.
    async fn until_in_force(
        &self,
        user: &User,
        cluster_role: &str,
        namespace: Option<&str>,
    ) -> Result<(), Error> {
        let roles: Api<ClusterRole> = Api::all(self.admin());
        let deadline = Instant::now() + Duration::from_secs(GRANT_SECONDS);
        loop {
            let reading = Error::kubernetes(format!("review `{cluster_role}`"));
            let role = roles.get(cluster_role).await.map_err(reading)?;
            if role.rules.is_some() || role.aggregation_rule.is_none() {
                let rules = role.rules.unwrap_or_default();
                return self.until_allowed(user, &rules, namespace).await;
            }
            if Instant::now() > deadline {
                return Err(not_in_force(user));
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until these rules are in force for the user, in one namespace or in the cluster.
    ///
    /// The authorizer reads roles and bindings from a cache, so a grant takes effect a moment later. The check is a
    /// review by the admin, because a review by the user would be in the audit log.
    ///
    /// # Errors
    /// The rules are not in force within 30 s.
    pub async fn until_allowed(
        &self,
        user: &User,
        rules: &[PolicyRule],
        namespace: Option<&str>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(GRANT_SECONDS);
        for attributes in examples(rules, namespace) {
            while !self.is_allowed(user, &attributes).await? {
                if Instant::now() > deadline {
                    return Err(not_in_force(user));
                }
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn is_allowed(&self, user: &User, attributes: &ResourceAttributes) -> Result<bool, Error> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                resource_attributes: Some(attributes.clone()),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.admin());
        let asking = Error::kubernetes(format!("review the rights of `{}`", user.name));
        let answer = reviews.create(&PostParams::default(), &review).await.map_err(asking)?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

fn not_in_force(user: &User) -> Error {
    Error::TimedOut { what: format!("that the rights of `{}` count", user.name), seconds: GRANT_SECONDS }
}

/// One action that each rule allows.
fn examples(rules: &[PolicyRule], namespace: Option<&str>) -> Vec<ResourceAttributes> {
    rules
        .iter()
        .filter_map(|rule| {
            let resource = rule.resources.as_ref()?.first()?;
            let (resource, subresource) = match resource.split_once('/') {
                Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
                None => (resource.as_str(), None),
            };
            Some(ResourceAttributes {
                group: rule.api_groups.as_ref()?.first().cloned(),
                resource: Some(resource.to_owned()),
                subresource,
                verb: rule.verbs.first().cloned(),
                name: rule.resource_names.iter().flatten().next().cloned(),
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            })
        })
        .collect()
}

fn generated_name(user: &User) -> ObjectMeta {
    ObjectMeta { generate_name: Some(format!("{}-", user.name)), ..ObjectMeta::default() }
}

fn role_ref(cluster_role: &str) -> RoleRef {
    RoleRef {
        api_group: "rbac.authorization.k8s.io".into(),
        kind: "ClusterRole".into(),
        name: cluster_role.to_owned(),
    }
}

fn subject(user: &User) -> Subject {
    Subject {
        api_group: Some("rbac.authorization.k8s.io".into()),
        kind: "User".into(),
        name: user.name.clone(),
        namespace: None,
    }
}
