//! Who may log in, and what they may do then.

use std::fmt;

/// A user, or a client of the UAA that acts on its own. `Debug` leaves the secret out.
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

/// What a login may do, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Access {
    pub role: Role,
    /// The names of the spaces where; everywhere where there are none.
    pub spaces: Vec<String>,
}

/// A role in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May read, make, change and delete keys, and see their credentials.
    SpaceDeveloper,
    /// May read keys, but not their credentials.
    SpaceAuditor,
    /// May not know of the space.
    None,
}

impl Login {
    /// A user that the UAA itself knows, and space developer everywhere.
    pub fn user(name: impl Into<String>, password: impl Into<String>) -> Self {
        let kind = LoginKind::User { origin: "uaa".into() };
        let access = Access { role: Role::SpaceDeveloper, spaces: Vec::new() };
        Self { kind, name: name.into(), secret: password.into(), access }
    }

    /// A client that may ask for `client_credentials`, and is space developer everywhere.
    pub fn client(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { kind: LoginKind::Client, ..Self::user(id, secret) }
    }

    /// The name of the user, or the id of the client.
    pub(in super::super) fn name(&self) -> &str {
        &self.name
    }

    /// Another identity provider knows the user; a login has to name it.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.kind = LoginKind::User { origin: origin.into() };
        self
    }

    /// Has this role instead.
    pub const fn role(mut self, role: Role) -> Self {
        self.access.role = role;
        self
    }

    /// Has its role in this space, and in those that were named before, and no role elsewhere.
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

    /// Whether keys may be made, changed and deleted, and credentials be read.
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
