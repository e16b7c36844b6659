//! Finds spaces and instances, and checks who may read them.

use super::{
    super::{
        estate::{Instance, InstanceOperation, Organization, Space},
        uaa::Session,
    },
    Place, State,
};

impl State {
    pub(super) fn spaces(&self) -> impl Iterator<Item = (&Organization, &Space)> {
        self.organizations
            .iter()
            .flat_map(|organization| organization.spaces.iter().map(move |space| (organization, space)))
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = Place<'_>> {
        self.spaces().flat_map(|(organization, space)| {
            space.instances.iter().map(move |instance| Place { organization, space, instance })
        })
    }

    pub(super) fn place(&self, instance: &str) -> Option<Place<'_>> {
        self.instances().find(|place| place.instance.guid == instance)
    }

    /// The GUIDs of the spaces that contain an instance: its own, and those that it is shared into.
    pub(super) fn spaces_with(&self, place: Place<'_>) -> Vec<&Space> {
        self.spaces()
            .map(|(_, space)| space)
            .filter(|space| space.guid == place.space.guid || space.shared.contains(&place.instance.guid))
            .collect()
    }

    /// The instance, if the caller may read it.
    pub(super) fn readable(&self, instance: &str, session: &Session) -> Option<Place<'_>> {
        self.place(instance).filter(|place| self.may_read(*place, session))
    }

    pub(super) fn may_read(&self, place: Place<'_>, session: &Session) -> bool {
        self.spaces_with(place).iter().any(|space| session.access.role_in(&space.name).may_read())
    }

    /// The GUID of the first instance with this name or GUID.
    pub(crate) fn instance_guid(&self, name: &str) -> Option<String> {
        let known = |place: &Place<'_>| place.instance.name == name || place.instance.guid == name;
        self.instances().find(known).map(|place| place.instance.guid.clone())
    }

    /// The GUID of the first space of this name.
    pub(crate) fn space_guid(&self, name: &str) -> Option<String> {
        self.spaces().find(|(_, space)| space.name == name).map(|(_, space)| space.guid.clone())
    }

    /// Sets the last operation on an instance; returns whether the instance exists.
    pub(crate) fn set_operation(&mut self, name: &str, operation: InstanceOperation) -> bool {
        let found = self.instance_mut(name);
        found.map(|instance| instance.operation = operation).is_some()
    }

    /// Removes an instance and all its keys; returns whether it existed.
    pub(crate) fn forget_instance(&mut self, name: &str) -> bool {
        let Some(guid) = self.instance_guid(name) else { return false };
        let keys: Vec<_> = self.keys.values().filter(|stored| stored.key.instance == guid).collect();
        let keys: Vec<_> = keys.into_iter().map(|stored| stored.key.guid.clone()).collect();
        for key in keys {
            self.forget(&key);
        }
        for organization in &mut self.organizations {
            for space in &mut organization.spaces {
                space.instances.retain(|instance| instance.guid != guid);
            }
        }
        true
    }

    fn instance_mut(&mut self, name: &str) -> Option<&mut Instance> {
        let guid = self.instance_guid(name)?;
        self.organizations
            .iter_mut()
            .flat_map(|organization| &mut organization.spaces)
            .flat_map(|space| &mut space.instances)
            .find(|instance| instance.guid == guid)
    }
}
