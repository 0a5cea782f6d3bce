//! Users of the account.

use std::collections::{BTreeMap, HashMap};

use super::listed::{Listed, Unreadable};

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The id of the user.
    pub id: String,
    /// The first name.
    pub first_name: String,
    /// The last name.
    pub last_name: String,
    /// The email address.
    pub email_address: String,
    /// The role in LeadSquared.
    pub role: String,
    /// Whether the user can sign in.
    pub active: bool,
}

/// A key to look up a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserKey {
    /// The id.
    Id(String),
    /// The email address. Case is ignored.
    Email(String),
}

/// All users of the account.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    by_id: BTreeMap<String, User>,
    ids: HashMap<String, String>,
    /// The records that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

impl Roster {
    /// Returns a roster of these users.
    pub fn new(users: impl Into<Listed<User>>) -> Self {
        let Listed {
            records: users,
            unreadable,
            ..
        } = users.into();
        let ids = users
            .iter()
            .map(|user| (user.email_address.to_ascii_lowercase(), user.id.to_ascii_lowercase()))
            .collect();
        let by_id = users
            .into_iter()
            .map(|user| (user.id.to_ascii_lowercase(), user))
            .collect();
        Self { by_id, ids, unreadable }
    }

    /// Finds a user by its key.
    pub fn get(&self, key: &UserKey) -> Option<&User> {
        match key {
            UserKey::Id(id) => self.by_id.get(&id.to_ascii_lowercase()),
            UserKey::Email(email) => self.by_id.get(self.ids.get(&email.trim().to_ascii_lowercase())?),
        }
    }

    /// Returns the users after an id, ordered by id.
    pub fn after<'a>(&'a self, id: &str) -> impl Iterator<Item = &'a User> + use<'a> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = if id.is_empty() {
            Unbounded
        } else {
            Excluded(id.to_ascii_lowercase())
        };
        self.by_id.range((begin, Unbounded)).map(|(_, user)| user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str, email: &str) -> User {
        User {
            id: id.into(),
            email_address: email.into(),
            ..User::default()
        }
    }

    #[test]
    fn users_are_found_by_id_and_email_in_any_case() {
        let roster = Roster::new(vec![user("B2", "Asha@example.com"), user("a1", "ben@example.com")]);
        assert_eq!(roster.get(&UserKey::Id("b2".into())).unwrap().id, "B2");
        assert_eq!(
            roster.get(&UserKey::Email(" asha@EXAMPLE.com".into())).unwrap().id,
            "B2"
        );
        assert_eq!(roster.get(&UserKey::Email("nobody@example.com".into())), None);
    }

    #[test]
    fn a_page_starts_after_an_id() {
        let roster = Roster::new(vec![user("B2", "b"), user("a1", "a"), user("c3", "c")]);
        let ids = |after: &str| roster.after(after).map(|user| user.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(""), ["a1", "B2", "c3"]);
        assert_eq!(ids("B2"), ["c3"]);
        assert!(ids("c3").is_empty());
    }
}
