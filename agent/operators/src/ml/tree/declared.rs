//! An ensemble as a file states it, whatever the version of its operator, and what is wrong with it.

use tract_onnx::tract_hir::internal::*;

/// What a branch asks of its feature. NaN answers no, but to [`Test::IsNot`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
    Above(f64),
    Is(f64),
    IsNot(f64),
    OneOf(Vec<f64>),
}

impl Test {
    /// From the name of versions 1 and 3; `None` is a leaf.
    pub(super) fn named(name: &str, value: f64) -> TractResult<Option<Self>> {
        Ok(Some(match name {
            "BRANCH_LEQ" => Self::AtMost(value),
            "BRANCH_LT" => Self::Below(value),
            "BRANCH_GTE" => Self::AtLeast(value),
            "BRANCH_GT" => Self::Above(value),
            "BRANCH_EQ" => Self::Is(value),
            "BRANCH_NEQ" => Self::IsNot(value),
            "LEAF" => return Ok(None),
            other => bail!("attribute `nodes_modes` has the unexpected value {other}"),
        }))
    }

    fn is_nan(&self) -> bool {
        match self {
            Self::AtMost(value)
            | Self::Below(value)
            | Self::AtLeast(value)
            | Self::Above(value)
            | Self::Is(value)
            | Self::IsNot(value) => value.is_nan(),
            Self::OneOf(values) => values.iter().any(|value| value.is_nan()),
        }
    }
}

/// Where a branch leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    Split(usize),
    Leaf(usize),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Split {
    pub(super) feature: u32,
    pub(super) test: Test,
    /// NaN goes to `yes`, whatever the test says.
    pub(super) missing_yes: bool,
    pub(super) yes: Child,
    pub(super) no: Child,
}

/// What a leaf adds to which targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Weights {
    /// Leaf i's weights end here and begin where those of leaf i - 1 end.
    ends: Vec<usize>,
    weights: Vec<(u32, f64)>,
}

impl Weights {
    /// From (leaf, target, weight), in any order of leaves.
    pub(super) fn new(leaves: usize, entries: &[(usize, u32, f64)]) -> Self {
        let mut ends = vec![0_usize; leaves];
        for (leaf, ..) in entries {
            if let Some(count) = ends.get_mut(*leaf) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum - *end;
        }
        // `ends` are beginnings still; filling moves each to its end.
        let mut weights = vec![(0, 0.0); sum];
        for (leaf, target, weight) in entries {
            if let Some(next) = ends.get_mut(*leaf) {
                if let Some(cell) = weights.get_mut(*next) {
                    *cell = (*target, *weight);
                }
                *next += 1;
            }
        }
        Self { ends, weights }
    }

    pub(super) fn of(&self, leaf: usize) -> &[(u32, f64)] {
        let end = self.ends.get(leaf).copied().unwrap_or(0);
        let start = leaf.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.weights.get(start..end).unwrap_or_default()
    }

    pub(super) fn leaves(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn all(&self) -> &[(u32, f64)] {
        &self.weights
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declared {
    pub(super) roots: Vec<Child>,
    pub(super) splits: Vec<Split>,
    pub(super) weights: Weights,
    pub(super) targets: usize,
    /// Numbers are stated in binary64.
    pub(super) double: bool,
}

/// Most targets or classes: memory is taken by this number for each row.
const MAX_TARGETS: usize = 1 << 16;
/// Most nodes, and most leaves: their places are 32 bits wide, and a test of equality takes two.
const MAX_NODES: usize = 1 << 28;
/// The highest feature: the uppermost bit of its place is taken.
const MAX_FEATURE: i64 = (1 << 31) - 1;

/// A feature's place, checked.
pub(super) fn feature(id: i64) -> TractResult<u32> {
    match u32::try_from(id) {
        Ok(feature) if id < MAX_FEATURE => Ok(feature),
        _ => bail!("attribute `nodes_featureids` has the unexpected value {id}"),
    }
}

/// A target's place, checked.
pub(super) fn target(name: &str, id: i64, targets: usize) -> TractResult<u32> {
    match usize::try_from(id) {
        Ok(target) if target < targets => Ok(u32::try_from(target)?),
        _ => bail!("attribute `{name}` speaks of {id}, there are {targets}"),
    }
}

/// The number of targets, checked.
pub(super) fn targets(name: &str, stated: i64) -> TractResult<usize> {
    match usize::try_from(stated) {
        Ok(targets @ 1..=MAX_TARGETS) => Ok(targets),
        _ => bail!("attribute `{name}` has the unexpected value {stated} (1 to {MAX_TARGETS} are supported)"),
    }
}

impl Declared {
    /// Checks that following branches from any root ends in a leaf, and that no number is NaN.
    pub(super) fn check(&self) -> TractResult<()> {
        ensure!(self.splits.len() <= MAX_NODES && self.weights.leaves() <= MAX_NODES, "more than {MAX_NODES} nodes");
        ensure!(!self.roots.is_empty(), "there is no tree");
        if let Some(at) = self.splits.iter().position(|split| split.test.is_nan()) {
            bail!("branch {at} compares with NaN");
        }
        if let Some((target, _)) = self.weights.all().iter().find(|(_, weight)| weight.is_nan()) {
            bail!("a leaf's weight for target {target} is NaN");
        }
        let leaves = self.weights.leaves();
        let mut state = vec![State::Unseen; self.splits.len()];
        for root in &self.roots {
            self.check_below(*root, leaves, &mut state)?;
        }
        Ok(())
    }

    /// Depth first, without recursion: a tree may be a chain of a million branches.
    fn check_below(&self, root: Child, leaves: usize, state: &mut [State]) -> TractResult<()> {
        let mut open = vec![(root, false)];
        while let Some((child, done)) = open.pop() {
            let at = match child {
                Child::Leaf(leaf) => {
                    ensure!(leaf < leaves, "a branch leads to leaf {leaf}, there are {leaves}");
                    continue;
                }
                Child::Split(at) => at,
            };
            let (Some(split), Some(state)) = (self.splits.get(at), state.get_mut(at)) else {
                bail!("a branch leads to node {at}, there are {}", self.splits.len());
            };
            if done {
                *state = State::Sound;
                continue;
            }
            match *state {
                State::Sound => {}
                State::Open => bail!("branches lead in a circle through node {at}"),
                State::Unseen => {
                    *state = State::Open;
                    open.extend([(child, true), (split.no, false), (split.yes, false)]);
                }
            }
        }
        Ok(())
    }

    /// How many features the branches read: the highest and all before it, at least one.
    pub(super) fn features(&self) -> usize {
        let highest = self.splits.iter().map(|split| split.feature).max().unwrap_or(0);
        usize::try_from(highest).unwrap_or(usize::MAX).saturating_add(1)
    }
}

#[derive(Clone, Copy)]
enum State {
    Unseen,
    Open,
    Sound,
}
