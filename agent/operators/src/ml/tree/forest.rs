//! Trees made flat: every test is `x <= threshold`, so that a step is a comparison and a choice of two places.

use super::declared::{Child, Declared, Split, Test};
use crate::ml::real::Real;
use tract_onnx::tract_hir::internal::*;

/// A branch or a leaf, 16 bytes in binary32.
///
/// A leaf leads to itself by `no`; so does `yes` where its one weight stands in `threshold`, else `yes` is the leaf's
/// number and `threshold` is NaN, which no feature is at most.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Node<T> {
    pub(super) threshold: T,
    /// The feature's place; with [`NAN_YES`], NaN goes to `yes`.
    pub(super) feature: u32,
    pub(super) yes: u32,
    pub(super) no: u32,
}

pub(super) const NAN_YES: u32 = 1 << 31;

/// What a leaf adds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Leaves<T> {
    /// One weight each, all for the same target: in the node.
    One { target: usize },
    /// All targets each: leaf i's begin at i times their number.
    Dense(Vec<T>),
    /// Any number: (start, end) by leaf.
    Sparse { spans: Vec<(u32, u32)>, weights: Vec<(u32, T)> },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Forest<T> {
    pub(super) nodes: Vec<Node<T>>,
    pub(super) roots: Vec<u32>,
    pub(super) leaves: Leaves<T>,
    pub(super) targets: usize,
    /// Whether any branch has [`NAN_YES`].
    pub(super) tracks_nan: bool,
}

impl<T: Real> Forest<T> {
    /// From an ensemble that was checked.
    pub(super) fn new(declared: &Declared) -> TractResult<Self> {
        let mut builder = Builder {
            declared,
            one: one_target(declared),
            nodes: Vec::with_capacity(declared.splits.len() + declared.weights.leaves()),
            splits: vec![None; declared.splits.len()],
            leaves: vec![None; declared.weights.leaves()],
            open: Vec::new(),
        };
        let mut roots = Vec::with_capacity(declared.roots.len());
        for root in &declared.roots {
            // Tree after tree, so that each lies together.
            roots.push(builder.place(*root)?);
            builder.grow()?;
        }
        let nodes = builder.nodes;
        let tracks_nan = nodes.iter().any(|node| node.feature & NAN_YES != 0);
        let leaves = leaves(declared, one_target(declared))?;
        Ok(Self { nodes, roots, leaves, targets: declared.targets, tracks_nan })
    }
}

/// The target of every weight, where every leaf has exactly one.
fn one_target(declared: &Declared) -> Option<usize> {
    let (first, _) = declared.weights.all().first()?;
    let all = |leaf| matches!(declared.weights.of(leaf), [(target, _)] if target == first);
    (0..declared.weights.leaves()).all(all).then(|| usize::try_from(*first).ok()).flatten()
}

fn leaves<T: Real>(declared: &Declared, one: Option<usize>) -> TractResult<Leaves<T>> {
    if let Some(target) = one {
        return Ok(Leaves::One { target });
    }
    let weights = &declared.weights;
    let in_order = |leaf: usize| {
        let own = weights.of(leaf);
        own.len() == declared.targets && own.iter().zip(0..).all(|((target, _), at)| *target == at)
    };
    if (0..weights.leaves()).all(in_order) {
        return Ok(Leaves::Dense(weights.all().iter().map(|(_, weight)| T::of(*weight)).collect()));
    }
    let mut end = 0_u32;
    let mut spans = Vec::with_capacity(weights.leaves());
    for leaf in 0..weights.leaves() {
        let start = end;
        end = end.checked_add(u32::try_from(weights.of(leaf).len())?).ok_or_else(|| format_err!("too many weights"))?;
        spans.push((start, end));
    }
    let weights = weights.all().iter().map(|(target, weight)| (*target, T::of(*weight))).collect();
    Ok(Leaves::Sparse { spans, weights })
}

struct Builder<'a, T> {
    declared: &'a Declared,
    one: Option<usize>,
    nodes: Vec<Node<T>>,
    /// Where each branch was placed.
    splits: Vec<Option<u32>>,
    /// Where each leaf was placed.
    leaves: Vec<Option<u32>>,
    /// Branches that have a place, and are not written yet.
    open: Vec<usize>,
}

impl<T: Real> Builder<'_, T> {
    fn add(&mut self, node: Node<T>) -> TractResult<u32> {
        let at = u32::try_from(self.nodes.len())?;
        self.nodes.push(node);
        Ok(at)
    }

    /// The place of a child, made where it has none.
    fn place(&mut self, child: Child) -> TractResult<u32> {
        match child {
            Child::Split(split) => {
                if let Some(Some(at)) = self.splits.get(split) {
                    return Ok(*at);
                }
                let at = self.add(Node::default())?;
                self.open.push(split);
                if let Some(place) = self.splits.get_mut(split) {
                    *place = Some(at);
                }
                Ok(at)
            }
            Child::Leaf(leaf) => {
                if let Some(Some(at)) = self.leaves.get(leaf) {
                    return Ok(*at);
                }
                let at = u32::try_from(self.nodes.len())?;
                let node = match (self.one, self.declared.weights.of(leaf)) {
                    (Some(_), [(_, weight)]) => Node { threshold: T::of(*weight), feature: 0, yes: at, no: at },
                    _ => Node { threshold: T::NAN, feature: 0, yes: u32::try_from(leaf)?, no: at },
                };
                if let Some(place) = self.leaves.get_mut(leaf) {
                    *place = Some(at);
                }
                self.add(node)
            }
        }
    }

    /// Writes all open branches, depth first; two siblings lie side by side.
    fn grow(&mut self) -> TractResult<()> {
        while let Some(at) = self.open.pop() {
            let (Some(split), Some(Some(place))) = (self.declared.splits.get(at), self.splits.get(at).copied()) else {
                continue;
            };
            let no = self.place(split.no)?;
            let yes = self.place(split.yes)?;
            self.write(place, split, yes, no)?;
        }
        Ok(())
    }

    fn write(&mut self, place: u32, split: &Split, yes: u32, no: u32) -> TractResult<()> {
        let Split { feature, missing_yes: missing, .. } = *split;
        match &split.test {
            Test::AtMost(value) => self.set(place, T::of(*value), feature, missing, yes, no),
            Test::Below(value) => self.set(place, just_below(T::of(*value)), feature, missing, yes, no),
            // The other way round: NaN goes to what was `no` unless it is tracked.
            Test::Above(value) => self.set(place, T::of(*value), feature, !missing, no, yes),
            Test::AtLeast(value) => self.set(place, just_below(T::of(*value)), feature, !missing, no, yes),
            Test::Is(value) => self.equal(place, T::of(*value), feature, missing, yes, no)?,
            // NaN is not equal to anything.
            Test::IsNot(value) => self.equal(place, T::of(*value), feature, false, no, yes)?,
            Test::OneOf(values) => {
                let mut values: Vec<T> = values.iter().map(|value| T::of(*value)).collect();
                values.sort_by(|a, b| a.wide().total_cmp(&b.wide()));
                values.dedup();
                self.one_of(place, &values, feature, missing, yes, no)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, place: u32, threshold: T, feature: u32, nan_yes: bool, yes: u32, no: u32) {
        let feature = if nan_yes { feature | NAN_YES } else { feature };
        if let Some(node) = usize::try_from(place).ok().and_then(|place| self.nodes.get_mut(place)) {
            *node = Node { threshold, feature, yes, no };
        }
    }

    /// x = v is x <= v and not x <= the number below v.
    fn equal(&mut self, place: u32, value: T, feature: u32, nan_yes: bool, yes: u32, no: u32) -> TractResult<()> {
        let second = self.add(Node::default())?;
        self.set(second, just_below(value), feature, false, no, yes);
        // NaN that counts as yes passes the second test by failing it.
        self.set(place, value, feature, nan_yes, second, no);
        Ok(())
    }

    /// A search by halves among sorted values.
    fn one_of(&mut self, place: u32, values: &[T], feature: u32, nan_yes: bool, yes: u32, no: u32) -> TractResult<()> {
        match values {
            [] => {
                self.set(place, T::NAN, feature, nan_yes, yes, no);
                Ok(())
            }
            [value] => self.equal(place, *value, feature, nan_yes, yes, no),
            _ => {
                let (low, high) = values.split_at(values.len() / 2);
                let (left, right) = (self.add(Node::default())?, self.add(Node::default())?);
                let middle = low.last().copied().unwrap_or(T::NAN);
                // NaN is not at most the middle: it goes right.
                self.set(place, middle, feature, false, left, right);
                self.one_of(left, low, feature, false, yes, no)?;
                self.one_of(right, high, feature, nan_yes, yes, no)
            }
        }
    }
}

/// The threshold for x < value; NaN, which nothing is at most, where there is no number below.
fn just_below<T: Real>(value: T) -> T {
    let below = value.below();
    if below < value { below } else { T::NAN }
}
