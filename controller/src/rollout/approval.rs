//! Who may let a wave begin: `2`, `3:admin`, `4:admin+other`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// What somebody may do to rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authority {
    /// Drive them.
    #[default]
    Operator,
    /// Everything.
    Admin,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

/// Somebody who asks for something: the name that is recorded, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: String,
    /// What they may do.
    pub authority: Authority,
}

impl From<&str> for Person {
    /// An operator of this name.
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), authority: Authority::Operator }
    }
}

impl From<String> for Person {
    /// An operator of this name.
    fn from(name: String) -> Self {
        Self { name, authority: Authority::Operator }
    }
}

/// Whose word a wave needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needed {
    /// At least this.
    pub authority: Authority,
    /// Not of the one who started the rollout.
    pub other: bool,
}

impl Needed {
    /// What satisfies both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { authority: self.authority.max(other.authority), other: self.other || other.other }
    }

    /// Whose word it is, for people.
    #[must_use]
    pub fn text(self, starter: &str) -> String {
        let who = match self.authority {
            Authority::Operator => "an operator",
            Authority::Admin => "an admin",
        };
        if self.other { format!("{who} other than {starter}") } else { who.to_owned() }
    }

    /// Why somebody's word is not enough; none when it is.
    #[must_use]
    pub fn refuses(self, person: &Person, starter: &str) -> Option<String> {
        if person.authority < self.authority {
            return Some(format!("needs the word of {}, and {} is none", self.text(starter), person.name));
        }
        (self.other && person.name == starter)
            .then(|| format!("needs the word of {}, and it is {} who started it", self.text(starter), person.name))
    }
}

/// A wave that begins only when somebody approves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval {
    /// Its number, from 1, among the waves as they were given.
    pub wave: usize,
    /// Who may approve.
    pub needed: Needed,
}

impl From<usize> for Approval {
    /// By any operator.
    fn from(wave: usize) -> Self {
        Self { wave, needed: Needed::default() }
    }
}

/// A text that is no approval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not say which wave is to be approved by whom; write 2, 2:admin, 2:other or 2:admin+other")]
pub struct ApprovalError(String);

impl FromStr for Approval {
    type Err = ApprovalError;
    fn from_str(text: &str) -> Result<Self, ApprovalError> {
        let refuse = || ApprovalError(text.chars().take(40).collect());
        let (wave, who) = text.trim().split_once(':').map_or((text.trim(), None), |(wave, who)| (wave, Some(who)));
        let mut approval = Self::from(wave.parse::<usize>().map_err(|_not_a_number| refuse())?);
        for part in who.into_iter().flat_map(|who| who.split('+')) {
            match part.trim() {
                "operator" => {}
                "admin" => approval.needed.authority = Authority::Admin,
                "other" => approval.needed.other = true,
                _ => return Err(refuse()),
            }
        }
        Ok(approval)
    }
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Needed { authority, other } = self.needed;
        let who = match (authority, other) {
            (Authority::Operator, false) => "",
            (Authority::Operator, true) => ":other",
            (Authority::Admin, false) => ":admin",
            (Authority::Admin, true) => ":admin+other",
        };
        write!(f, "{}{who}", self.wave)
    }
}

impl Serialize for Approval {
    /// A bare number where any operator may, as it was before there was a choice.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(self.wave) {
            Ok(wave) if self.needed == Needed::default() => serializer.serialize_u64(wave),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Approval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Wave(usize),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Wave(wave) => Ok(wave.into()),
            Form::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_is_written_as_it_is_read() {
        for text in ["2", "3:admin", "4:other", "5:admin+other"] {
            let approval: Approval = text.parse().unwrap();
            assert_eq!(approval.to_string(), text);
            let json = serde_json::to_string(&approval).unwrap();
            assert_eq!(serde_json::from_str::<Approval>(&json).unwrap(), approval, "{json}");
        }
        assert_eq!(serde_json::to_string(&Approval::from(2)).unwrap(), "2");
        for text in ["", "x", "2:", "2:viewer", "2:admin,other", ":admin", "-1"] {
            assert!(text.parse::<Approval>().is_err(), "{text}");
        }
    }

    #[test]
    fn who_may_approve_is_who_is_asked_for() {
        let person = |name: &str, authority| Person { name: name.to_owned(), authority };
        let check = |given: &str, who: &Person, allowed: bool| {
            let needed = given.parse::<Approval>().unwrap().needed;
            assert_eq!(needed.refuses(who, "ann").is_none(), allowed, "{given} by {who:?}");
        };
        let (ann, bob) = (person("ann", Authority::Operator), person("bob", Authority::Operator));
        let (root, ann_root) = (person("root", Authority::Admin), person("ann", Authority::Admin));
        for (given, allowed) in [
            ("1", [true, true, true, true]),
            ("1:other", [false, true, true, false]),
            ("1:admin", [false, false, true, true]),
            ("1:admin+other", [false, false, true, false]),
        ] {
            for (who, allowed) in [&ann, &bob, &root, &ann_root].into_iter().zip(allowed) {
                check(given, who, allowed);
            }
        }
    }
}
