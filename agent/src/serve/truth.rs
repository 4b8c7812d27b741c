//! What answers say that may turn out right or wrong. Pure.

use super::error::ApiError;
use super::ledger::Ledger;
use crate::runtime::Answer;
use serde::Deserialize;
use std::sync::Arc;

/// Largest batch of which the rows are kept.
const MOST_ROWS: usize = 4_096;

/// What was said, or is true, of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Class(usize),
    /// The labels that hold, in order.
    Labels(Box<[usize]>),
}

impl Said {
    fn of(answer: &Answer) -> Option<Self> {
        match answer {
            Answer::Classification { class, .. } => Some(Self::Class(*class)),
            Answer::MultiLabel { labels, .. } => Some(Self::labels(labels.iter().map(|held| held.class).collect())),
            Answer::Regression { .. } | Answer::Detection { .. } | Answer::Raw => None,
        }
    }

    fn labels(mut classes: Vec<usize>) -> Self {
        classes.sort_unstable();
        classes.dedup();
        Self::Labels(classes.into())
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Class(_) => 0,
            Self::Labels(held) => size_of_val::<[usize]>(held),
        }
    }
}

/// One row of an answer.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) said: Said,
    pub(crate) labelled: bool,
}

/// A prediction that labels may come for.
#[derive(Debug)]
pub(crate) struct Prediction {
    /// Whose it is.
    pub(crate) by: Arc<Ledger>,
    pub(crate) rows: Box<[Row]>,
}

impl Prediction {
    /// `None` when there is nothing to say right or wrong about, or the batch is too large.
    pub(crate) fn of(by: &Arc<Ledger>, answers: &[Answer]) -> Option<Self> {
        if answers.len() > MOST_ROWS {
            return None;
        }
        let row = |answer| Said::of(answer).map(|said| Row { said, labelled: false });
        let rows: Box<[Row]> = answers.iter().map(row).collect::<Option<_>>()?;
        Some(Self { by: Arc::clone(by), rows })
    }

    /// What its rows take, bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val::<[Row]>(&self.rows) + self.rows.iter().map(|row| row.said.bytes()).sum::<usize>()
    }
}

/// The truth as it is told.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Label {
    One(Class),
    Several(Vec<Class>),
}

/// A class by its name, or by its number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Class {
    Name(String),
    Number(usize),
}

impl Label {
    /// The truth in the terms of what was said; `names` are the classes'.
    ///
    /// # Errors
    /// 400 when there is no such class, or several are told of an answer that is one.
    pub(crate) fn read(&self, said: &Said, names: &[String]) -> Result<Said, ApiError> {
        match (said, self) {
            (Said::Class(_), Self::One(class)) => class.read(names).map(Said::Class),
            (Said::Class(_), Self::Several(_)) => {
                Err(ApiError::bad_request("the model answers one class, not several"))
            }
            (Said::Labels(_), Self::One(class)) => Ok(Said::labels(vec![class.read(names)?])),
            (Said::Labels(_), Self::Several(classes)) => {
                classes.iter().map(|class| class.read(names)).collect::<Result<_, _>>().map(Said::labels)
            }
        }
    }
}

impl Class {
    fn read(&self, names: &[String]) -> Result<usize, ApiError> {
        let known = |class: &usize| names.is_empty() || *class < names.len();
        let (found, asked) = match self {
            Self::Number(class) => (Some(*class).filter(known), class.to_string()),
            Self::Name(name) => (names.iter().position(|label| label == name), format!("`{}`", shown(name))),
        };
        found.ok_or_else(|| ApiError::bad_request(format!("the model has no class {asked}")))
    }
}

/// A text from outside, short enough to repeat.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
