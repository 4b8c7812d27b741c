//! `TreeEnsemble`, version 5: branches and leaves in tables of their own.

use super::declared::{self, Child, Declared, Split, Test, Weights};
use crate::ml::attributes::Attributes;
use crate::ml::scalars::Scalars;
use tract_onnx::tract_hir::internal::*;

pub(super) fn read(attributes: &Attributes<'_>) -> TractResult<Declared> {
    let ints = |name: &str| attributes.list::<i64>(name)?.ok_or_else(|| attributes.missing(name));
    let tensor = |name: &str| attributes.tensor(name)?.ok_or_else(|| attributes.missing(name));
    let targets = declared::targets("n_targets", attributes.int("n_targets")?.unwrap_or(1))?;
    let features = ints("nodes_featureids")?;
    let count = features.len();
    let sized = |name: &str| -> TractResult<Vec<i64>> {
        let list = ints(name)?;
        attributes.check_len(name, list.len(), count)?;
        Ok(list)
    };
    let (yes, no) = (sized("nodes_truenodeids")?, sized("nodes_falsenodeids")?);
    let (yes_leaf, no_leaf) = (sized("nodes_trueleafs")?, sized("nodes_falseleafs")?);
    let Scalars::Ints(modes, _) = tensor("nodes_modes")? else {
        bail!("attribute `nodes_modes` does not hold integers")
    };
    attributes.check_len("nodes_modes", modes.len(), count)?;
    let splits = tensor("nodes_splits")?;
    let mut double = splits.dtype() == DatumType::F64;
    let splits = splits.reals("nodes_splits")?;
    attributes.check_len("nodes_splits", splits.len(), count)?;
    let mut missing: Vec<i64> = attributes.list_or_empty("nodes_missing_value_tracks_true")?;
    if missing.is_empty() {
        missing.resize(count, 0);
    }
    attributes.check_len("nodes_missing_value_tracks_true", missing.len(), count)?;
    let mut sets = member_sets(attributes)?.into_iter();

    let mut list = Vec::with_capacity(count);
    for (at, (mode, split)) in modes.iter().zip(&splits).enumerate() {
        let value = |list: &[i64]| list.get(at).copied().unwrap_or(0);
        let test = match mode {
            0 => Test::AtMost(*split),
            1 => Test::Below(*split),
            2 => Test::AtLeast(*split),
            3 => Test::Above(*split),
            4 => Test::Is(*split),
            5 => Test::IsNot(*split),
            6 => match sets.next() {
                Some(set) => Test::OneOf(set),
                None => bail!("attribute `membership_values` has fewer sets than there are BRANCH_MEMBER nodes"),
            },
            other => return attributes.unexpected("nodes_modes", other),
        };
        list.push(Split {
            feature: declared::feature(value(&features))?,
            test,
            missing_yes: value(&missing) != 0,
            yes: child("nodes_truenodeids", value(&yes), value(&yes_leaf))?,
            no: child("nodes_falsenodeids", value(&no), value(&no_leaf))?,
        });
    }
    ensure!(sets.next().is_none(), "attribute `membership_values` has more sets than there are BRANCH_MEMBER nodes");

    let target_ids = ints("leaf_targetids")?;
    let weights = tensor("leaf_weights")?;
    double |= weights.dtype() == DatumType::F64;
    let weights = weights.reals("leaf_weights")?;
    attributes.check_len("leaf_weights", weights.len(), target_ids.len())?;
    let mut entries = Vec::with_capacity(weights.len());
    for (leaf, (target, weight)) in target_ids.iter().zip(weights).enumerate() {
        entries.push((leaf, declared::target("leaf_targetids", *target, targets)?, weight));
    }
    let roots = ints("tree_roots")?.into_iter().map(|root| child("tree_roots", root, 0));
    let roots: Vec<Child> = roots.collect::<TractResult<_>>()?;
    let declared = Declared { roots, splits: list, weights: Weights::new(target_ids.len(), &entries), targets, double };
    declared.check()?;
    Ok(declared)
}

/// That the place exists is checked with the whole.
fn child(name: &str, at: i64, is_leaf: i64) -> TractResult<Child> {
    let Ok(at) = usize::try_from(at) else { bail!("attribute `{name}` has the unexpected value {at}") };
    Ok(if is_leaf == 0 { Child::Split(at) } else { Child::Leaf(at) })
}

/// Sets of values, each ended by NaN but the last, which may be.
fn member_sets(attributes: &Attributes<'_>) -> TractResult<Vec<Vec<f64>>> {
    let Some(values) = attributes.tensor("membership_values")? else { return Ok(Vec::new()) };
    let values = values.reals("membership_values")?;
    let values = match values.split_last() {
        None => return Ok(Vec::new()),
        Some((last, rest)) if last.is_nan() => rest,
        Some(_) => values.as_slice(),
    };
    Ok(values.split(|value| value.is_nan()).map(<[f64]>::to_vec).collect())
}
