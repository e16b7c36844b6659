//! Lists of keys.

use super::{
    super::{
        iam::{Access, Session},
        record::Key,
        route::Route,
    },
    Answered, Refusal, State, Stored,
    instances::{RESOURCE_GROUP, WORDS, show_page},
    keys::PATH,
    may_read,
};
use crate::remote::reading::Parameters;

impl State {
    pub(super) fn list_keys(&mut self, query: &Parameters, session: &Session) -> Answered {
        self.page_of_keys(Route::Keys, PATH, query, session, None)
    }

    pub(super) fn list_keys_of_instance(
        &mut self,
        id: &str,
        query: &Parameters,
        session: &Session,
    ) -> Answered {
        let route = Route::KeysOfInstance;
        may_read(route, session)?;
        let instance = self.instance(id);
        let instance = instance.ok_or_else(|| Refusal::not_found(route, "resource instance", id))?;
        let guid = instance.guid.clone();
        let path = format!("/v2/resource_instances/{guid}/resource_keys");
        self.page_of_keys(route, &path, query, session, Some(&guid))
    }

    fn page_of_keys(
        &mut self,
        route: Route,
        path: &str,
        query: &Parameters,
        session: &Session,
        instance: Option<&str>,
    ) -> Answered {
        let asked = self.pages.read(route, path, query, &WORDS)?;
        let is_wanted = |stored: &Stored<Key>| {
            let key = &stored.thing;
            let service = self.instance(&key.instance).map(|instance| instance.resource_id.as_str());
            session.access != Access::None
                && instance.is_none_or(|instance| key.instance == instance)
                && asked.admits("name", &key.name)
                && asked.admits("guid", &key.guid)
                && asked.admits("resource_id", service.unwrap_or_default())
                && asked.admits("resource_group_id", RESOURCE_GROUP)
                && (!key.removed || self.quirks.lists_show_removed)
        };
        let hides = |stored: &Stored<Key>| stored.hidden > 0 && self.quirks.lists_without_new_keys;
        let found = self.keys.iter().filter(|(_, stored)| is_wanted(stored));
        let (hidden, shown): (Vec<_>, Vec<_>) = found.partition(|(_, stored)| hides(stored));
        let hidden: Vec<u64> = hidden.into_iter().map(|(number, _)| *number).collect();
        let show = |stored| self.show_key(stored, self.visible_credentials(stored, session));
        let shown: Vec<_> = shown.into_iter().map(|(number, stored)| (*number, show(stored))).collect();
        for number in hidden {
            if let Some(stored) = self.keys.get_mut(&number) {
                stored.hidden -= 1;
            }
        }
        let page = self.pages.turn(path, asked, shown.into_iter());
        Ok(show_page(path, page))
    }
}
