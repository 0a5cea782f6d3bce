//! Collects the violations of a request, so that one error lists all of them.

use crate::error::{ErrorKind, Result, Violation};

/// The violations of a request.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    /// Adds a violation of a field.
    pub(super) fn add(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.0.push(Violation::new(field, text));
    }

    /// Adds a violation of a field unless the condition is true.
    pub(super) fn require(&mut self, is_valid: bool, field: &str, text: impl Into<String>) {
        if !is_valid {
            self.add(field, text);
        }
    }

    /// Returns the value of a field, or adds the text of the error as a violation of the field.
    pub(super) fn check<T>(&mut self, field: &str, value: std::result::Result<T, impl Into<String>>) -> Option<T> {
        value.map_err(|text| self.add(field, text)).ok()
    }

    /// Returns the value if it has no violation, or adds the violation.
    pub(super) fn check_value<T>(&mut self, value: T, violation: Option<Violation>) -> Option<T> {
        match violation {
            None => Some(value),
            Some(violation) => {
                self.0.push(violation);
                None
            }
        }
    }

    /// Returns the value, or adds the violations of an [`ErrorKind::Invalid`].
    pub(super) fn collect<T>(&mut self, value: Result<T>) -> Option<T> {
        let error = match value {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if let ErrorKind::Invalid(violations) = error.kind {
            self.extend(violations);
        }
        None
    }

    /// Adds violations.
    pub(super) fn extend(&mut self, violations: impl IntoIterator<Item = Violation>) {
        self.0.extend(violations);
    }

    /// Returns the values, or [`ErrorKind::Invalid`] if there are violations. Values that are missing have a violation.
    pub(super) fn finish<T>(self, values: impl FnOnce() -> Option<T>) -> Result<T> {
        match values() {
            Some(values) if self.0.is_empty() => Ok(values),
            _ => Err(ErrorKind::Invalid(self.0).into()),
        }
    }

    /// Returns [`ErrorKind::Invalid`] if there are violations.
    pub(super) fn none(self) -> Result<()> {
        self.finish(|| Some(()))
    }
}

impl From<Violations> for Vec<Violation> {
    fn from(violations: Violations) -> Self {
        violations.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn an_error_lists_all_violations_in_order() {
        let mut violations = Violations::default();
        violations.require(true, "a", "is wrong");
        violations.require(false, "b", "is wrong");
        assert_eq!(violations.check("c", Ok::<_, String>(7)), Some(7));
        assert_eq!(violations.check::<()>("d", Err("is wrong")), None);
        assert_eq!(violations.check_value(7, Some(Violation::new("e", "is wrong"))), None);
        assert_eq!(violations.collect::<()>(Err(Error::invalid("f", "is wrong"))), None);
        let Err(error) = violations.finish(|| Some(7)) else {
            panic!("there are violations");
        };
        let fields = ["b", "d", "e", "f"].map(|field| Violation::new(field, "is wrong"));
        assert_eq!(error.kind, ErrorKind::Invalid(fields.to_vec()));
        assert_eq!(Violations::default().finish(|| Some(7)), Ok(7));
    }
}
