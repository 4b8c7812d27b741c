//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor`, versions 1 and 3: parallel lists of nodes and of weights.

use super::declared::{self, Child, Declared, Split, Test, Weights};
use crate::ml::attributes::{Attributes, Reals};
use std::collections::HashMap;
use tract_onnx::tract_hir::internal::*;

/// How the lists of weights are called.
#[derive(Debug, Clone, Copy)]
pub(super) enum Prefix {
    Class,
    Target,
}

impl Prefix {
    fn name(self, rest: &str) -> String {
        match self {
            Self::Class => format!("class_{rest}"),
            Self::Target => format!("target_{rest}"),
        }
    }
}

/// Reads the lists. `targets` is the number of classes or targets.
pub(super) fn read(attributes: &Attributes<'_>, prefix: Prefix, targets: usize) -> TractResult<Declared> {
    let needed = |name: &str| attributes.list::<i64>(name)?.ok_or_else(|| attributes.missing(name));
    let trees = needed("nodes_treeids")?;
    let count = trees.len();
    let sized = |name: &str| -> TractResult<Vec<i64>> {
        let list = needed(name)?;
        attributes.check_len(name, list.len(), count)?;
        Ok(list)
    };
    let ids = sized("nodes_nodeids")?;
    let features = sized("nodes_featureids")?;
    let yes = sized("nodes_truenodeids")?;
    let no = sized("nodes_falsenodeids")?;
    let modes: Vec<&str> = attributes.list("nodes_modes")?.ok_or_else(|| attributes.missing("nodes_modes"))?;
    attributes.check_len("nodes_modes", modes.len(), count)?;
    let values = attributes.reals("nodes_values")?.unwrap_or_else(|| Reals { values: vec![0.0; count], double: false });
    attributes.check_len("nodes_values", values.values.len(), count)?;
    let mut missing: Vec<i64> = attributes.list_or_empty("nodes_missing_value_tracks_true")?;
    if missing.is_empty() {
        missing.resize(count, 0);
    }
    attributes.check_len("nodes_missing_value_tracks_true", missing.len(), count)?;

    // Splits and leaves are counted apart.
    let mut tests = Vec::with_capacity(count);
    let mut places = HashMap::with_capacity(count);
    let (mut splits, mut leaves) = (0, 0);
    let mut roots = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (((mode, value), tree), id) in modes.iter().zip(&values.values).zip(&trees).zip(&ids) {
        let test = Test::named(mode, *value)?;
        let next = if test.is_some() { &mut splits } else { &mut leaves };
        let child = if test.is_some() { Child::Split(*next) } else { Child::Leaf(*next) };
        *next += 1;
        ensure!(places.insert((*tree, *id), child).is_none(), "node {id} of tree {tree} is there twice");
        // The first node of a tree is its root.
        if seen.insert(*tree) {
            roots.push(child);
        }
        tests.push(test);
    }
    let find = |tree: i64, id: i64| {
        let found = places.get(&(tree, id)).copied();
        found.ok_or_else(|| format_err!("tree {tree} has no node {id}, to which a branch or weight belongs"))
    };
    let mut list = Vec::with_capacity(splits);
    for (at, test) in tests.into_iter().enumerate() {
        let Some(test) = test else { continue };
        let value = |list: &[i64]| list.get(at).copied().unwrap_or(0);
        let tree = value(&trees);
        list.push(Split {
            feature: declared::feature(value(&features))?,
            test,
            missing_yes: value(&missing) != 0,
            yes: find(tree, value(&yes))?,
            no: find(tree, value(&no))?,
        });
    }
    let (weights, weights_double) = read_weights(attributes, prefix, targets, leaves, find)?;
    let double = values.double || weights_double;
    let declared = Declared { roots, splits: list, weights, targets, double };
    declared.check()?;
    Ok(declared)
}

fn read_weights(
    attributes: &Attributes<'_>,
    prefix: Prefix,
    targets: usize,
    leaves: usize,
    find: impl Fn(i64, i64) -> TractResult<Child>,
) -> TractResult<(Weights, bool)> {
    let [trees, nodes, ids] = ["treeids", "nodeids", "ids"].map(|rest| attributes.list::<i64>(&prefix.name(rest)));
    let (trees, nodes, ids) = (trees?.unwrap_or_default(), nodes?.unwrap_or_default(), ids?.unwrap_or_default());
    let weights = attributes.reals(&prefix.name("weights"))?.unwrap_or_default();
    ensure!(!weights.values.is_empty(), "no leaf has a weight");
    let count = weights.values.len();
    for (rest, found) in [("treeids", trees.len()), ("nodeids", nodes.len()), ("ids", ids.len())] {
        attributes.check_len(&prefix.name(rest), found, count)?;
    }
    let name = prefix.name("ids");
    let mut entries = Vec::with_capacity(count);
    for (((tree, node), id), weight) in trees.iter().zip(&nodes).zip(&ids).zip(&weights.values) {
        // Some exporters state weights of branches, which no row ever gets.
        let target = declared::target(&name, *id, targets)?;
        if let Child::Leaf(leaf) = find(*tree, *node)? {
            entries.push((leaf, target, *weight));
        }
    }
    Ok((Weights::new(leaves, &entries), weights.double))
}
