//! Which devices are meant: `site=lyon,arch=aarch64,tier!=lab,has:camera`, or `*` for all.
//!
//! Terms are joined by commas and all must hold. A key is looked up among what the box *is* (`id`, `arch`, `os`,
//! `cpu`, `hostname`, `agent`) before what the operator calls it, so a label cannot pass for an architecture.

use super::labels::{RESERVED, check_key, check_value};
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::wire::v1::Inventory;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Longest selector that is read.
const MAX_BYTES: usize = 4_096;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    All,
    Is(String, String),
    IsNot(String, String),
    Has(String),
}

/// A parsed selector. Its text form is what was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

/// A text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{term}` is not a term of a selector: {reason}; write `*`, `key=value`, `key!=value` or `has:key`, joined by commas"
)]
pub struct SelectorError {
    /// The part that was not understood.
    pub term: String,
    /// Why.
    pub reason: String,
}

/// What a selector looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The device's name.
    pub id: &'a DeviceId,
    /// What the operator calls it.
    pub labels: &'a BTreeMap<String, String>,
    /// What the box is.
    pub inventory: &'a Inventory,
}

impl<'a> Subject<'a> {
    fn value(&self, key: &str) -> Option<&'a str> {
        let inventory = self.inventory;
        let fact = match key {
            "id" => self.id.as_str(),
            "arch" => &inventory.arch,
            "os" => &inventory.os,
            "cpu" => &inventory.cpu_model,
            "hostname" => &inventory.hostname,
            // What the agent can do beside stands behind its version.
            "agent" => inventory.agent_version.split('+').next().unwrap_or_default(),
            label => return self.labels.get(label).map(String::as_str),
        };
        (!fact.is_empty()).then_some(fact)
    }
}

impl Selector {
    /// Every device.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![Term::All])
    }

    /// Keys that a device must have.
    pub fn needed(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|term| match term {
            Term::Is(key, _) | Term::Has(key) => Some(key.as_str()),
            Term::All | Term::IsNot(..) => None,
        })
    }

    /// Keys that a device must not have with some value.
    pub fn excluded(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|term| match term {
            Term::IsNot(key, _) => Some(key.as_str()),
            Term::All | Term::Is(..) | Term::Has(_) => None,
        })
    }

    /// Whether a device is meant. A key that a device does not have is not equal to anything.
    #[must_use]
    pub fn matches(&self, device: Subject<'_>) -> bool {
        self.0.iter().all(|term| match term {
            Term::All => true,
            Term::Is(key, value) => device.value(key) == Some(value),
            Term::IsNot(key, value) => device.value(key) != Some(value),
            Term::Has(key) => device.value(key).is_some(),
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_BYTES {
            let term = text.chars().take(40).collect();
            return Err(SelectorError { term, reason: format!("it is longer than {MAX_BYTES} bytes") });
        }
        text.split(',').map(|term| parse_term(term.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_term(term: &str) -> Result<Term, SelectorError> {
    let refuse = |reason: String| SelectorError { term: term.to_owned(), reason };
    let key = |key: &str| match RESERVED.contains(&key) {
        true => Ok(key.to_owned()),
        false => check_key(key).map(|()| key.to_owned()).map_err(|error| refuse(error.to_string())),
    };
    let value = |value: &str| check_value(value).map(|()| value.to_owned()).map_err(|error| refuse(error.to_string()));
    if term == "*" {
        Ok(Term::All)
    } else if let Some(name) = term.strip_prefix("has:") {
        Ok(Term::Has(key(name)?))
    } else if let Some((name, text)) = term.split_once("!=") {
        Ok(Term::IsNot(key(name)?, value(text)?))
    } else if let Some((name, text)) = term.split_once('=') {
        Ok(Term::Is(key(name)?, value(text)?))
    } else if term.is_empty() {
        Err(refuse("it is empty".to_owned()))
    } else {
        Err(refuse("it compares nothing".to_owned()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match term {
                Term::All => f.write_str("*")?,
                Term::Is(key, value) => write!(f, "{key}={value}")?,
                Term::IsNot(key, value) => write!(f, "{key}!={value}")?,
                Term::Has(key) => write!(f, "has:{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, matches: bool) {
        let id = "box-1".parse().unwrap();
        let labels = [("site".into(), "lyon".into()), ("camera".into(), String::new())].into();
        let inventory = Inventory { arch: "aarch64".into(), ..Inventory::default() };
        let subject = Subject { id: &id, labels: &labels, inventory: &inventory };
        assert_eq!(selector.parse::<Selector>().unwrap().matches(subject), matches, "{selector}");
    }

    #[test]
    fn all_terms_must_hold() {
        check("*", true);
        check("site=lyon", true);
        check("site=lyon,arch=aarch64", true);
        check("site=lyon, arch=x86_64", false);
        check("id=box-1,has:site", true);
    }

    #[test]
    fn an_absent_key_is_equal_to_nothing() {
        check("tier=lab", false);
        check("tier!=lab", true);
        check("has:tier", false);
        check("os!=linux", true);
    }

    #[test]
    fn an_empty_label_is_there() {
        check("has:camera", true);
        check("camera=", true);
    }

    #[test]
    fn the_text_round_trips() {
        for text in ["*", "site=lyon,tier!=lab,has:camera"] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_and_named() {
        for (text, term) in
            [("", ""), ("site", "site"), ("a=1,,b=2", ""), ("A=1", "A=1"), ("has:", "has:"), ("=x", "=x")]
        {
            assert_eq!(text.parse::<Selector>().unwrap_err().term, term, "{text}");
        }
    }
}
