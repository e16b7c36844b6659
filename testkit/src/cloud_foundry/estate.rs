//! The organizations, their spaces, and the service instances in these, at the start of the fake. The fake assigns
//! their GUIDs when it starts.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::remote::Environment;

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Organization {
    pub(super) guid: String,
    pub(super) name: String,
    pub(super) key_limit: Option<usize>,
    pub(super) spaces: Vec<Space>,
}

impl Organization {
    /// An organization without spaces.
    pub fn new(name: impl Into<String>) -> Self {
        Self { guid: String::new(), name: name.into(), key_limit: None, spaces: Vec::new() }
    }

    /// Adds a space. Its name must be unique in the organization.
    pub fn space(mut self, space: Space) -> Self {
        self.spaces.push(space);
        self
    }

    /// Limits the number of service keys by a quota.
    pub const fn key_limit(mut self, keys: usize) -> Self {
        self.key_limit = Some(keys);
        self
    }
}

/// A space of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Space {
    pub(super) guid: String,
    pub(super) name: String,
    pub(super) key_limit: Option<usize>,
    pub(super) instances: Vec<Instance>,
    /// GUIDs of instances in other spaces that are shared into this one.
    pub(super) shared: Vec<String>,
}

impl Space {
    /// A space without instances.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            guid: String::new(),
            name: name.into(),
            key_limit: None,
            instances: Vec::new(),
            shared: Vec::new(),
        }
    }

    /// Adds an instance. Its name must be unique in the space.
    pub fn instance(mut self, instance: Instance) -> Self {
        self.instances.push(instance);
        self
    }

    /// Shares an instance of another space into this one. It may have the name of an instance that is already here:
    /// names are unique only among the instances that live in a space.
    pub fn shared(mut self, instance: &Instance) -> Self {
        self.shared.push(instance.guid.clone());
        self
    }

    /// Limits the number of service keys by a quota.
    pub const fn key_limit(mut self, keys: usize) -> Self {
        self.key_limit = Some(keys);
        self
    }
}

/// A service instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Instance {
    /// Until the start of the fake, it only identifies the instance for [`Space::shared`].
    pub(super) guid: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) operation: InstanceOperation,
}

/// The origin of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Managed { bindable: bool },
    UserProvided,
}

impl Instance {
    /// An instance that a broker has created.
    pub fn managed(name: impl Into<String>) -> Self {
        Self {
            guid: Uuid::new_v4().to_string(),
            name: name.into(),
            kind: Kind::Managed { bindable: true },
            operation: InstanceOperation { kind: "create", state: OperationState::Succeeded },
        }
    }

    /// An instance that a user described. It can't have keys.
    pub fn user_provided(name: impl Into<String>) -> Self {
        Self { kind: Kind::UserProvided, ..Self::managed(name) }
    }

    /// Gives the instance a plan that is not bindable.
    pub const fn unbindable(mut self) -> Self {
        self.kind = Kind::Managed { bindable: false };
        self
    }

    /// Sets the last operation on the instance.
    pub const fn operation(mut self, operation: InstanceOperation) -> Self {
        self.operation = operation;
        self
    }

    pub(super) const fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Managed { .. } => "managed",
            Kind::UserProvided => "user-provided",
        }
    }
}

/// `last_operation` of a service instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceOperation {
    /// `create`, `update` or `delete`.
    pub kind: &'static str,
    /// The state of the operation.
    pub state: OperationState,
}

/// `last_operation.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// The Cloud Controller has not called the broker yet.
    Initial,
    /// The broker works on it.
    InProgress,
    /// The operation has succeeded.
    Succeeded,
    /// The operation has failed.
    Failed,
}

impl OperationState {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::InProgress => "in progress",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// Whether the operation has not ended.
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Self::Initial | Self::InProgress)
    }
}

/// Gives all objects new GUIDs, as the Cloud Controller does when it creates them.
pub(super) fn assign_guids(organizations: &mut [Organization], environment: &Environment) {
    let mut assigned = BTreeMap::new();
    for organization in &mut *organizations {
        organization.guid = environment.guid();
        for space in &mut organization.spaces {
            space.guid = environment.guid();
            for instance in &mut space.instances {
                let guid = environment.guid();
                assigned.insert(std::mem::replace(&mut instance.guid, guid.clone()), guid);
            }
        }
    }
    for space in organizations.iter_mut().flat_map(|organization| &mut organization.spaces) {
        for guid in &mut space.shared {
            if let Some(assigned) = assigned.get(guid) {
                guid.clone_from(assigned);
            }
        }
    }
}
