//! The users that the API server knows by token. It reads the token file only at its start, so there is a fixed pool of
//! users.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Error;

/// The user of a request. Each operator in a test has its own, so that the audit log separates their requests.
#[derive(Clone, Debug)]
pub struct User {
    /// The name in RBAC and in the audit log.
    pub name: String,
    /// The bearer token, valid for this plane only.
    pub token: String,
}

impl User {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), token: uuid::Uuid::new_v4().to_string() }
    }
}

/// All users of one plane.
#[derive(Debug)]
pub(super) struct Users {
    /// The user with all permissions.
    pub(super) admin: User,
    /// The user of the controller manager.
    pub(super) controller_manager: User,
    pool: Vec<User>,
    handed_out: AtomicUsize,
}

impl Users {
    pub(super) fn new(pool: usize) -> Self {
        Self {
            admin: User::new("admin"),
            controller_manager: User::new("controller-manager"),
            pool: (1..=pool).map(|number| User::new(format!("operator-{number}"))).collect(),
            handed_out: AtomicUsize::new(0),
        }
    }

    /// The next unused user, without permissions.
    pub(super) fn take(&self) -> Result<User, Error> {
        let number = self.handed_out.fetch_add(1, Ordering::Relaxed);
        self.pool.get(number).cloned().ok_or(Error::NoUserLeft(self.pool.len()))
    }

    /// The names in the pool: the users whose requests are audited.
    pub(super) fn audited(&self) -> Vec<&str> {
        self.pool.iter().map(|user| user.name.as_str()).collect()
    }

    /// The file for `--token-auth-file`: token, user, uid, groups.
    pub(super) fn token_file(&self) -> String {
        let masters = [&self.admin, &self.controller_manager]
            .map(|User { name, token }| format!("{token},{name},{name},system:masters\n"));
        let pool = self.pool.iter().map(|User { name, token }| format!("{token},{name},{name}\n"));
        masters.into_iter().chain(pool).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_is_handed_out_once_and_the_end_of_the_pool_is_an_error() {
        let users = Users::new(2);
        let names = [users.take().unwrap().name, users.take().unwrap().name];
        assert_eq!(names, ["operator-1", "operator-2"]);
        assert!(matches!(users.take(), Err(Error::NoUserLeft(2))));
    }

    #[test]
    fn only_the_planes_own_users_are_masters() {
        let users = Users::new(1);
        let file = users.token_file();
        let masters: Vec<_> = file.lines().filter(|line| line.ends_with("system:masters")).collect();
        assert_eq!(masters.len(), 2);
        assert!(file.ends_with(",operator-1,operator-1\n"));
    }
}
