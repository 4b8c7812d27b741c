//! What a release does to the devices that run it, as people write it: `harmless`, `errors x2, crash 1%`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Largest factor of an effect.
const MAX_FACTOR: f64 = 1_000.0;

/// A text that is no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no effect of a release: write harmless, or some of errors xN, slower xN, wrong xN, drift N%, crash N%, silent N%, unloadable N%, joined by commas"
)]
pub struct EffectError(String);

/// What a release does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Effect {
    /// Each request's chance of an error is multiplied by this, whatever its cause.
    pub errors: f64,
    /// Each inference takes so many times as long.
    pub slower: f64,
    /// Among labelled answers, the chance of a wrong one is multiplied by this.
    pub wrong: f64,
    /// This share of answers becomes one and the same class.
    pub drift: f64,
    /// On this share of devices it kills the agent.
    pub crash: f64,
    /// This share of devices is not heard of again.
    pub silent: f64,
    /// On this share of devices the self-test fails.
    pub unloadable: f64,
}

impl Default for Effect {
    fn default() -> Self {
        Self { errors: 1.0, slower: 1.0, wrong: 1.0, drift: 0.0, crash: 0.0, silent: 0.0, unloadable: 0.0 }
    }
}

impl Effect {
    /// A release with so many times the errors.
    #[must_use]
    pub fn errors(factor: f64) -> Self {
        Self { errors: factor, ..Self::default() }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        *self == Self::default()
    }

    fn parts(&self) -> [(&'static str, f64, bool); 7] {
        [
            ("errors", self.errors, true),
            ("slower", self.slower, true),
            ("wrong", self.wrong, true),
            ("drift", self.drift, false),
            ("crash", self.crash, false),
            ("silent", self.silent, false),
            ("unloadable", self.unloadable, false),
        ]
    }
}

impl FromStr for Effect {
    type Err = EffectError;
    fn from_str(text: &str) -> Result<Self, EffectError> {
        let refuse = || EffectError(text.chars().take(60).collect());
        let mut effect = Self::default();
        if text.trim() == "harmless" {
            return Ok(effect);
        }
        for term in text.split(',') {
            let (name, amount) = term.trim().split_once(' ').ok_or_else(refuse)?;
            let number = |text: &str| text.trim().parse::<f64>().map_err(|_not_a_number| refuse());
            let factor = |amount: &str| {
                let factor = number(amount.strip_prefix('x').ok_or_else(refuse)?)?;
                if (0.0..=MAX_FACTOR).contains(&factor) { Ok(factor) } else { Err(refuse()) }
            };
            let share = |amount: &str| {
                let share = number(amount.strip_suffix('%').ok_or_else(refuse)?)? / 100.0;
                if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(refuse()) }
            };
            let amount = amount.trim();
            match name {
                "errors" => effect.errors = factor(amount)?,
                "slower" => effect.slower = factor(amount)?,
                "wrong" => effect.wrong = factor(amount)?,
                "drift" => effect.drift = share(amount)?,
                "crash" => effect.crash = share(amount)?,
                "silent" => effect.silent = share(amount)?,
                "unloadable" => effect.unloadable = share(amount)?,
                _ => return Err(refuse()),
            }
        }
        Ok(effect)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let neutral = Self::default().parts();
        let parts = self.parts().into_iter().zip(neutral).filter(|(mine, neutral)| mine.1 != neutral.1);
        let texts: Vec<String> = parts
            .map(|((name, amount, factor), _)| {
                // Whole hundredths of a per cent, or percentages would show how floats are kept.
                if factor { format!("{name} x{amount}") } else { format!("{name} {}%", (amount * 1e4).round() / 1e2) }
            })
            .collect();
        if texts.is_empty() { f.write_str("harmless") } else { f.write_str(&texts.join(", ")) }
    }
}

impl TryFrom<String> for Effect {
    type Error = EffectError;
    fn try_from(text: String) -> Result<Self, EffectError> {
        text.parse()
    }
}

impl From<Effect> for String {
    fn from(effect: Effect) -> Self {
        effect.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_written_alike() {
        for text in ["harmless", "errors x1.5", "slower x3, drift 20%", "crash 12.5%, silent 0.1%, unloadable 100%"] {
            assert_eq!(text.parse::<Effect>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_effect_is_refused_by_name() {
        for text in ["", "errors", "errors 2", "errors x-1", "errors xNaN", "drift x2", "drift 101%", "bad x2"] {
            assert!(text.parse::<Effect>().is_err(), "{text}");
        }
        assert!("bad x2".parse::<Effect>().unwrap_err().to_string().starts_with("`bad x2` is no effect"));
    }
}
