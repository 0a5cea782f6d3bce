//! The leads that exist because of the command.

/// The lead of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProbeLead {
    pub(super) id: String,
    pub(super) email: String,
    /// A fictional phone number. `None`: other leads of the account have the numbers that were tried.
    pub(super) phone: Option<String>,
}

/// A lead that may exist because of the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CreatedLead {
    /// Its email address, by which it is found if its id is not known.
    pub(super) email: Option<String>,
    pub(super) id: Option<String>,
    /// Whether it was certainly not created.
    pub(super) is_absent: bool,
}

impl CreatedLead {
    /// The lead for users.
    pub(super) fn name(&self) -> String {
        match (&self.id, &self.email) {
            (Some(id), _) => format!("lead {id}"),
            (None, Some(email)) => format!("the lead with the email address {email}, if it exists"),
            (None, None) => "a lead".to_owned(),
        }
    }
}
