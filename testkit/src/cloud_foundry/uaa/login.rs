//! The logins, and their permissions.

use std::fmt;

/// A user, or a client of the UAA that acts for itself. `Debug` omits the secret.
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
    User {
        /// The identity provider that knows the user.
        origin: String,
    },
    Client,
}

/// The permissions of a login, and their spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Access {
    pub role: Role,
    /// The names of the spaces; all spaces if this is empty.
    pub spaces: Vec<String>,
}

/// A role in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May read, create, change and delete keys, and read their credentials.
    SpaceDeveloper,
    /// May read keys, but not their credentials.
    SpaceAuditor,
    /// May not read the space.
    None,
}

impl Login {
    /// A user of the UAA itself, who is space developer in all spaces.
    pub fn user(name: impl Into<String>, password: impl Into<String>) -> Self {
        let kind = LoginKind::User { origin: "uaa".into() };
        let access = Access { role: Role::SpaceDeveloper, spaces: Vec::new() };
        Self { kind, name: name.into(), secret: password.into(), access }
    }

    /// A client that may use `client_credentials`, and is space developer in all spaces.
    pub fn client(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { kind: LoginKind::Client, ..Self::user(id, secret) }
    }

    /// The name of the user, or the id of the client.
    pub(in super::super) fn name(&self) -> &str {
        &self.name
    }

    /// Moves the user to another identity provider, which a login then has to name.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.kind = LoginKind::User { origin: origin.into() };
        self
    }

    /// Sets another role.
    pub const fn role(mut self, role: Role) -> Self {
        self.access.role = role;
        self
    }

    /// Limits the role to this space, and to the spaces of earlier calls.
    pub fn in_space(mut self, name: impl Into<String>) -> Self {
        self.access.spaces.push(name.into());
        self
    }
}

impl Access {
    /// The role in a space of this name.
    pub(crate) fn role_in(&self, space: &str) -> Role {
        let here = self.spaces.is_empty() || self.spaces.iter().any(|name| name == space);
        if here { self.role } else { Role::None }
    }
}

impl Role {
    pub(in super::super) const fn may_read(self) -> bool {
        matches!(self, Self::SpaceDeveloper | Self::SpaceAuditor)
    }

    /// Whether the role may create, change and delete keys, and read credentials.
    pub(in super::super) const fn may_develop(self) -> bool {
        matches!(self, Self::SpaceDeveloper)
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
