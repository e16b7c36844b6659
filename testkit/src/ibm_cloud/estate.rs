//! The service instances of the account, at the start of the fake.

/// A service instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Instance {
    /// Assigned at the start of the fake.
    pub(super) guid: String,
    pub(super) name: String,
    pub(super) service: String,
    pub(super) resource_id: String,
    pub(super) roles: Vec<String>,
    pub(super) custom_roles: Vec<String>,
    pub(super) key_limit: usize,
    pub(super) one_time: bool,
    pub(super) is_auditing: bool,
    pub(super) state: InstanceState,
}

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// It can be used.
    Active,
    /// It is being created.
    Provisioning,
    /// It was deleted, and can be restored.
    PendingReclamation,
    /// It was deleted.
    Removed,
}

impl Instance {
    /// An active instance of `cloudantnosqldb`, with the roles Reader, Writer and Manager and a limit of 20 keys.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            guid: String::new(),
            name: name.into(),
            service: String::new(),
            resource_id: String::new(),
            roles: ["Reader", "Writer", "Manager"].map(Into::into).into(),
            custom_roles: Vec::new(),
            key_limit: 20,
            one_time: false,
            is_auditing: false,
            state: InstanceState::Active,
        }
        .service("cloudantnosqldb")
    }

    /// An instance of `databases-for-postgresql`. The service has platform roles only, and its keys contain nothing of
    /// IAM (IBM-Cloud/terraform-provider-ibm, issue 1387).
    pub fn database(name: impl Into<String>) -> Self {
        Self::new(name).service("databases-for-postgresql").roles([])
    }

    /// An Activity Tracker instance. Its keys contain `service_key`, by IBM's page "Managing service keys"
    /// (ibm-cloud-docs/activity-tracker, `service_keys.md`). Only callers with the service role Manager see it,
    /// whatever role the key has. All keys of the instance share one value, which stays valid after their deletion.
    pub fn auditing(name: impl Into<String>) -> Self {
        Self { is_auditing: true, ..Self::new(name).service("logdnaat") }
    }

    /// Sets the service. Instances of the same service have the same `resource_id`.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = service.into();
        self.resource_id = format!("{}-catalog-id", self.service);
        self
    }

    /// Replaces the roles of its service.
    pub fn roles<'a>(mut self, roles: impl IntoIterator<Item = &'a str>) -> Self {
        self.roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a role that the account defined for its service.
    pub fn custom_role(mut self, role: impl Into<String>) -> Self {
        self.custom_roles.push(role.into());
        self
    }

    /// Sets the limit of keys, instead of 20.
    pub const fn key_limit(mut self, keys: usize) -> Self {
        self.key_limit = keys;
        self
    }

    /// Shows the credentials of its keys only in the answer to the creation.
    pub const fn one_time(mut self) -> Self {
        self.one_time = true;
        self
    }

    /// Sets the state, instead of active.
    pub const fn state(mut self, state: InstanceState) -> Self {
        self.state = state;
        self
    }

    /// Whether its service has roles of its own.
    pub(super) fn has_roles(&self) -> bool {
        !self.roles.is_empty() || !self.custom_roles.is_empty()
    }

    pub(super) fn crn(&self, account: &str) -> String {
        format!("{}::", self.scope(account))
    }

    pub(super) fn key_crn(&self, account: &str, key: &str) -> String {
        format!("{}:resource-key:{key}", self.scope(account))
    }

    fn scope(&self, account: &str) -> String {
        format!("crn:v1:bluemix:public:{}:eu-de:a/{account}:{}", self.service, self.guid)
    }

    /// The CRNs of its service's roles by their names, the roles of the service first.
    pub(super) fn roles_with_crns(&self, account: &str) -> impl Iterator<Item = (&str, String)> {
        let of_the_service = self.roles.iter().map(|role| (role.as_str(), service_role(role)));
        let of_the_account = self.custom_roles.iter().map(move |role| {
            let crn = format!("crn:v1:bluemix:public:iam-access-management::a/{account}::customRole:{role}");
            (role.as_str(), crn)
        });
        of_the_service.chain(of_the_account)
    }
}

/// The CRN of a service's role. It contains no spaces.
pub(super) fn service_role(name: &str) -> String {
    format!("crn:v1:bluemix:public:iam::::serviceRole:{}", name.replace(' ', ""))
}

impl InstanceState {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Provisioning => "provisioning",
            Self::PendingReclamation => "pending_reclamation",
            Self::Removed => "removed",
        }
    }

    pub(super) const ALL: [Self; 4] =
        [Self::Active, Self::Provisioning, Self::PendingReclamation, Self::Removed];
}
