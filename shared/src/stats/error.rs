//! What can be wrong with statistics that somebody else made.

/// Why a sketch, a window or a baseline was refused. Nothing has changed when one of these comes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// Two sketches of different layout were to be merged or compared.
    #[error("{what} do not fit together: {left} against {right}")]
    Shape {
        /// The part that differs, in the plural.
        what: &'static str,
        /// Its size here.
        left: usize,
        /// Its size there.
        right: usize,
    },
    /// Two windows of different models, releases or baselines were to be merged or compared.
    #[error("windows of different origin: `{left}` against `{right}`")]
    Origin {
        /// Model, release and baseline digest here.
        left: String,
        /// Model, release and baseline digest there.
        right: String,
    },
    /// A part is larger than allowed.
    #[error("too many {what}: {found}, at most {limit}")]
    TooMany {
        /// The part, in the plural.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// A share with more hits than trials, a window that closes before it opens, and the like.
    #[error("{what} contradict themselves")]
    Inconsistent {
        /// The part, in the plural.
        what: &'static str,
    },
    /// Bin edges that are not finite and strictly increasing, or are fewer than two.
    #[error("bin edges are not finite and strictly increasing")]
    Edges,
    /// There is no finite value to make a baseline of.
    #[error("no finite value among {found} to make bin edges of")]
    NoValues {
        /// How many values were given.
        found: usize,
    },
    /// A window or a baseline without a single count cannot be compared: that is no evidence, neither for drift nor against it.
    #[error("nothing was counted, so nothing can be compared")]
    NoCounts,
    /// A window in a form that this build does not know.
    #[error("window of form {found}, only form {known} is known")]
    Form {
        /// The form's number in the bytes.
        found: u8,
        /// The one that is known.
        known: u8,
    },
    /// Bytes that are not the compact form they should be.
    #[error("malformed compact {what}")]
    Malformed {
        /// What the bytes should have been.
        what: &'static str,
    },
}

/// Refuses more than `limit` of something.
pub(crate) fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), StatsError> {
    if found > limit { Err(StatsError::TooMany { what, found, limit }) } else { Ok(()) }
}

/// Refuses two sizes that differ.
pub(crate) fn same_size(what: &'static str, left: usize, right: usize) -> Result<(), StatsError> {
    if left == right { Ok(()) } else { Err(StatsError::Shape { what, left, right }) }
}
