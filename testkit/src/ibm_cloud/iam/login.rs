//! The logins, and their permissions.

use std::fmt;

use crate::remote::Environment;

/// A user with an API key, or a trusted profile. `Debug` omits the secret.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct Login {
    pub(super) kind: LoginKind,
    pub(super) name: String,
    pub(super) secret: String,
    pub(super) access: Access,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LoginKind {
    /// The secret is an API key. The id is assigned at the start of the fake.
    Identity { iam_id: String },
    /// The secret is the token of the compute resource that may assume the profile. The id is assigned at the start of
    /// the fake.
    Profile { id: String },
}

/// The permissions of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// All permissions.
    Full,
    /// May create and delete keys, without the service role Manager on the instances.
    Editor,
    /// May read everything except credentials.
    Viewer,
    /// No permissions: lists are empty, and everything else is forbidden.
    None,
}

impl Login {
    /// A user with this name and an API key.
    pub fn api_key(name: impl Into<String>, api_key: impl Into<String>) -> Self {
        let kind = LoginKind::Identity { iam_id: String::new() };
        Self { kind, name: name.into(), secret: api_key.into(), access: Access::Full }
    }

    /// A trusted profile with this name, and the token of the compute resource that may assume it.
    pub fn profile(name: impl Into<String>, compute_resource_token: impl Into<String>) -> Self {
        let kind = LoginKind::Profile { id: String::new() };
        Self { kind, ..Self::api_key(name, compute_resource_token) }
    }

    /// Sets the access, instead of all permissions.
    pub const fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Assigns its id, as IBM Cloud does when it creates the login.
    pub(in super::super) fn assign_id(&mut self, environment: &Environment) {
        match &mut self.kind {
            LoginKind::Identity { iam_id } => *iam_id = format!("IBMid-{}", environment.secret()),
            LoginKind::Profile { id } => *id = format!("Profile-{}", environment.guid()),
        }
    }

    /// The id of the trusted profile; `None` if this is not a profile.
    pub(super) fn profile_id(&self) -> Option<&str> {
        match &self.kind {
            LoginKind::Profile { id } => Some(id),
            LoginKind::Identity { .. } => None,
        }
    }

    pub(super) fn iam_id(&self) -> String {
        match &self.kind {
            LoginKind::Identity { iam_id } => iam_id.clone(),
            LoginKind::Profile { id } => format!("iam-{id}"),
        }
    }

    pub(in super::super) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, secret: _, access } = self;
        f.debug_struct("Login")
            .field("kind", kind)
            .field("name", name)
            .field("access", access)
            .finish_non_exhaustive()
    }
}
