//! The stored activities. They are not validated here.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::random::Random;

/// A stored activity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The GUID. Its name is `Id`, `ProspectActivityId` or `ID`, depending on the endpoint.
    pub id: String,
    /// The number, `ProspectActivityAutoId`.
    pub number: u64,
    /// The `ProspectID` of the lead.
    pub lead_id: String,
    /// The code of the activity type.
    pub code: u32,
    /// The id of the user that owns the activity.
    pub owner: Option<String>,
    /// The note: `ActivityNote` in writes, `ActivityEvent_Note` in reads.
    pub note: Option<String>,
    /// The values of the other fields by schema name. Unset fields are absent.
    pub fields: BTreeMap<String, String>,
    /// Time of creation.
    pub created: Timestamp,
    /// Time of the last write.
    pub modified: Timestamp,
}

impl Activity {
    /// Creates an activity without an id. The store assigns the id.
    pub(crate) fn new(lead_id: &str, code: u32, now: Timestamp) -> Self {
        Self {
            id: String::new(),
            number: 0,
            lead_id: lead_id.into(),
            code,
            owner: None,
            note: None,
            fields: BTreeMap::new(),
            created: now,
            modified: now,
        }
    }

    /// Sets a field by its schema name. `None` clears the field.
    pub(crate) fn set(&mut self, name: &str, value: Option<String>) {
        match name {
            "Owner" => self.owner = value,
            "ActivityEvent_Note" => self.note = value,
            _ => match value {
                Some(value) => drop(self.fields.insert(name.into(), value)),
                None => drop(self.fields.remove(name)),
            },
        }
    }

    /// Returns the value of a field by its schema name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        match name {
            "Owner" => self.owner.as_deref(),
            "ActivityEvent_Note" => self.note.as_deref(),
            _ => self.fields.get(name).map(String::as_str),
        }
    }
}

/// All activities of the account.
#[derive(Debug)]
pub(crate) struct Activities {
    all: BTreeMap<u64, Activity>,
    numbers: HashMap<String, u64>,
    by_lead: HashMap<String, Vec<u64>>,
    last_number: u64,
    random: Random,
}

impl Activities {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            all: BTreeMap::new(),
            numbers: HashMap::new(),
            by_lead: HashMap::new(),
            last_number: 5_000,
            // Activities have a generator of their own, so that an activity does not change the ids of leads.
            random: Random::new(seed ^ 0xac71_0000_0000_0000),
        }
    }

    /// Inserts an activity and returns its id. An activity without an id gets a random id. An activity with the same id
    /// is replaced.
    pub(crate) fn insert(&mut self, mut activity: Activity) -> String {
        if activity.id.is_empty() {
            activity.id = self.random.guid();
        }
        self.last_number += 1;
        let number = self.last_number;
        activity.number = number;
        let id = activity.id.clone();
        if let Some(old) = self.numbers.insert(key(&id), number) {
            self.remove_replaced(old);
        }
        self.by_lead.entry(key(&activity.lead_id)).or_default().push(number);
        self.all.insert(number, activity);
        id
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Activity> {
        self.all.get(&number)
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&Activity> {
        self.all.get(self.numbers.get(&key(id))?)
    }

    pub(crate) fn by_id_mut(&mut self, id: &str) -> Option<&mut Activity> {
        self.all.get_mut(self.numbers.get(&key(id))?)
    }

    /// Returns the activities of a lead in the order of insertion.
    pub(crate) fn on_lead(&self, lead_id: &str) -> impl DoubleEndedIterator<Item = &Activity> {
        let numbers = self.by_lead.get(&key(lead_id)).map_or(&[][..], Vec::as_slice);
        numbers.iter().filter_map(|number| self.all.get(number))
    }

    /// Returns all activities in the order of insertion.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Activity> {
        self.all.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Removes the activities of a lead.
    pub(crate) fn remove_lead(&mut self, lead_id: &str) {
        for number in self.by_lead.remove(&key(lead_id)).unwrap_or_default() {
            if let Some(activity) = self.all.remove(&number) {
                self.numbers.remove(&key(&activity.id));
            }
        }
    }

    /// Moves the activities of one lead to another.
    pub(crate) fn move_lead(&mut self, from: &str, to: &str) {
        let mut moved = self.by_lead.remove(&key(from)).unwrap_or_default();
        for number in &moved {
            if let Some(activity) = self.all.get_mut(number) {
                activity.lead_id = to.into();
            }
        }
        let numbers = self.by_lead.entry(key(to)).or_default();
        numbers.append(&mut moved);
        numbers.sort_unstable();
    }

    /// Removes an activity whose id is already assigned to another activity.
    fn remove_replaced(&mut self, number: u64) {
        if let Some(old) = self.all.remove(&number)
            && let Some(numbers) = self.by_lead.get_mut(&key(&old.lead_id))
        {
            numbers.retain(|known| *known != number);
        }
    }
}

fn key(id: &str) -> String {
    id.to_ascii_lowercase()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn on(lead: &str) -> Activity {
        Activity::new(lead, 201, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_activities_of_a_lead_can_be_moved_and_removed() {
        let mut activities = Activities::new(1);
        let one = activities.insert(on("A"));
        let two = activities.insert(on("b"));
        let three = activities.insert(on("a"));
        let ids = |activities: &Activities, lead| -> Vec<String> {
            activities.on_lead(lead).map(|activity| activity.id.clone()).collect()
        };
        assert_eq!(ids(&activities, "a"), [one.clone(), three.clone()]);
        activities.move_lead("a", "B");
        assert_eq!(ids(&activities, "b"), [one.clone(), two, three]);
        assert_eq!(activities.by_id(&one.to_uppercase()).unwrap().lead_id, "B");
        activities.remove_lead("b");
        assert_eq!((activities.len(), activities.by_id(&one)), (0, None));
    }

    #[test]
    fn an_activity_with_the_same_id_is_replaced() {
        let mut activities = Activities::new(1);
        let mut activity = on("a");
        activity.id = "chosen".into();
        activities.insert(activity.clone());
        activity.lead_id = "b".into();
        activities.insert(activity);
        assert_eq!((activities.len(), activities.on_lead("a").count()), (1, 0));
    }
}
