//! Whether two releases say the same of a request. Pure.
//!
//! | answer | the same when | difference |
//! |---|---|---|
//! | one class | the class is | of the best scores |
//! | several labels | those that hold are | of the likeliest labels' scores |
//! | a number, raw outputs | they differ by 1 % at most | the largest |
//! | objects | each of one has a partner in the other: of its class, boxes that overlap by half | the largest of partners' scores; 0 is the score of what is missing |
//!
//! Releases may number their classes differently: names are compared where both have some.

use crate::monitor::collector::likeliest;
use crate::runtime::{Answer, Found, Ranked};
use fieldpost_shared::bundle::Tensor;
use fieldpost_shared::stats::Row;
use std::collections::BTreeSet;

/// Values of a regression, and raw outputs, that differ by no more than this share are the same.
const SAME_VALUE: f64 = 0.01;
/// Boxes that share so much of their union are of one object.
const SAME_OBJECT: f64 = 0.5;

/// Compares two releases' answers, and their outputs where the answers are the outputs; `None` when they cannot be: they are
/// not of one kind, or of another number of rows or values.
pub(super) fn compare(mine: (&[Answer], &[Tensor]), theirs: (&[Answer], &[Tensor])) -> Option<Vec<Row>> {
    if mine.0.len() != theirs.0.len() {
        return None;
    }
    mine.0.iter().zip(theirs.0).map(|(a, b)| row(a, b, mine.1, theirs.1)).collect()
}

fn row(mine: &Answer, theirs: &Answer, my_outputs: &[Tensor], their_outputs: &[Tensor]) -> Option<Row> {
    match (mine, theirs) {
        (
            Answer::Classification { class, score, top, .. },
            Answer::Classification { class: other, score: others, top: other_top, .. },
        ) => {
            let name = |top: &[Ranked]| top.first().and_then(|best| best.label.clone());
            let same = is_same((name(top).as_deref(), *class), (name(other_top).as_deref(), *other));
            Some(Row { same, delta: f64::from(*score) - f64::from(*others), classes: Some((*class, *other)) })
        }
        (
            Answer::MultiLabel { labels, probabilities },
            Answer::MultiLabel { labels: other, probabilities: other_probabilities },
        ) => {
            let best = |probabilities: &[f32]| likeliest(probabilities).map_or(f64::NAN, |(_, score)| f64::from(score));
            let delta = best(probabilities) - best(other_probabilities);
            Some(Row { same: same_labels(labels, other), delta, classes: None })
        }
        (Answer::Regression { value }, Answer::Regression { value: other }) => Some(values(&[*value], &[*other])),
        (Answer::Detection { objects }, Answer::Detection { objects: others }) => Some(scenes(objects, others)),
        (Answer::Raw, Answer::Raw) => {
            let all = |outputs: &[Tensor]| outputs.iter().flat_map(Tensor::to_f64).collect::<Vec<f64>>();
            let (mine, theirs) = (all(my_outputs), all(their_outputs));
            (mine.len() == theirs.len()).then(|| values(&mine, &theirs))
        }
        _ => None,
    }
}

fn is_same(mine: (Option<&str>, usize), theirs: (Option<&str>, usize)) -> bool {
    match (mine.0, theirs.0) {
        (Some(mine), Some(theirs)) => mine == theirs,
        _ => mine.1 == theirs.1,
    }
}

fn same_labels(mine: &[Ranked], theirs: &[Ranked]) -> bool {
    fn names(held: &[Ranked]) -> Option<BTreeSet<&str>> {
        held.iter().map(|ranked| ranked.label.as_deref()).collect()
    }
    let numbers = |held: &[Ranked]| held.iter().map(|ranked| ranked.class).collect::<BTreeSet<usize>>();
    match (names(mine), names(theirs)) {
        (Some(mine), Some(theirs)) => mine == theirs,
        _ => numbers(mine) == numbers(theirs),
    }
}

/// Partners are found greedily: the best object first, and for each what overlaps it most among what is left.
fn scenes(mine: &[Found], theirs: &[Found]) -> Row {
    let mut left: Vec<&Found> = theirs.iter().collect();
    let (mut same, mut delta) = (true, 0.0);
    let mut differ = |by: f32| delta = largest(delta, f64::from(by).abs());
    for object in mine {
        let of_class =
            |other: &Found| is_same((object.label.as_deref(), object.class), (other.label.as_deref(), other.class));
        // Of equal ones the last is found, which is the best from behind.
        let candidates = left.iter().enumerate().rev().filter(|(_, other)| of_class(other));
        let overlapping = candidates.map(|(at, other)| (at, object.overlap(other)));
        let partner = overlapping.filter(|(_, overlap)| *overlap >= SAME_OBJECT).max_by(|a, b| a.1.total_cmp(&b.1));
        match partner {
            Some((at, _)) => differ(object.score - left.remove(at).score),
            None => {
                same = false;
                differ(object.score);
            }
        }
    }
    left.iter().for_each(|alone| differ(alone.score));
    Row { same: same && left.is_empty(), delta, classes: None }
}

fn values(mine: &[f64], theirs: &[f64]) -> Row {
    let pairs = || mine.iter().zip(theirs);
    let delta = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, largest);
    let same = pairs().all(|(a, b)| (a - b).abs() <= SAME_VALUE * a.abs().max(b.abs()));
    Row { same, delta, classes: None }
}

/// NaN is larger than all numbers.
fn largest(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(class: usize, label: Option<&str>, score: f32) -> Ranked {
        Ranked { class, label: label.map(str::to_owned), score }
    }

    fn class(class: usize, label: Option<&str>, score: f32) -> Answer {
        let top = vec![ranked(class, label, score)];
        Answer::Classification { class, label: None, score, top, probabilities: vec![] }
    }

    fn compared(mine: Answer, theirs: Answer) -> Option<(bool, f64)> {
        let pairs = compare((&[mine], &[]), (&[theirs], &[]))?;
        pairs.first().map(|pair| (pair.same, pair.delta))
    }

    #[test]
    fn names_of_classes_count_and_numbers_where_there_are_none() {
        assert_eq!(compared(class(1, Some("cat"), 0.75), class(2, Some("cat"), 0.5)), Some((true, 0.25)));
        assert_eq!(compared(class(1, Some("cat"), 0.5), class(1, Some("dog"), 0.5)), Some((false, 0.0)));
        assert_eq!(compared(class(1, None, 0.5), class(1, None, 0.75)), Some((true, -0.25)));
    }

    #[test]
    fn values_are_the_same_within_a_hundredth() {
        let value = |value| Answer::Regression { value };
        assert_eq!(compared(value(100.0), value(100.5)), Some((true, 0.5)));
        assert_eq!(compared(value(100.0), value(102.0)), Some((false, 2.0)));
        assert!(matches!(compared(value(1.0), value(f64::NAN)), Some((false, delta)) if delta.is_nan()));
    }

    #[test]
    fn labels_that_hold_are_compared_as_a_set() {
        let held = |labels: &[(usize, Option<&str>)], best| Answer::MultiLabel {
            labels: labels.iter().map(|(class, label)| ranked(*class, *label, 0.5)).collect(),
            probabilities: vec![0.0, best],
        };
        let check = |mine: &[(usize, Option<&str>)], theirs: &[(usize, Option<&str>)]| {
            let (same, delta) = compared(held(mine, 0.75), held(theirs, 0.5)).unwrap();
            assert_eq!((same, delta), (compared(held(theirs, 0.5), held(mine, 0.75)).unwrap().0, 0.25));
            same
        };
        assert!(check(&[(0, Some("a")), (1, Some("b"))], &[(5, Some("b")), (1, Some("a"))]));
        assert!(!check(&[(0, Some("a")), (1, Some("b"))], &[(0, Some("a"))]));
        assert!(!check(&[(0, Some("a"))], &[(0, Some("b"))]));
        assert!(check(&[(0, None), (1, None)], &[(1, Some("b")), (0, Some("a"))]));
        assert!(check(&[], &[]) && !check(&[], &[(0, None)]));
    }

    fn object(class: usize, score: f32, left: f32) -> Found {
        Found { class, label: None, score, bounds: [left, 0.0, left + 10.0, 10.0] }
    }

    fn scene(mine: &[Found], theirs: &[Found]) -> (bool, f64) {
        let of = |objects: &[Found]| Answer::Detection { objects: objects.to_vec() };
        compared(of(mine), of(theirs)).unwrap()
    }

    #[test]
    fn objects_find_their_partners() {
        // Boxes of 10 x 10, shifted by 3: 70 of 130. Shifted by 4: 60 of 140.
        assert_eq!(scene(&[object(0, 0.75, 0.0)], &[object(0, 0.5, 3.0)]), (true, 0.25));
        assert_eq!(scene(&[object(0, 0.75, 0.0)], &[object(0, 0.5, 4.0)]), (false, 0.75));
        assert_eq!(scene(&[object(0, 0.75, 0.0)], &[object(1, 0.75, 0.0)]), (false, 0.75), "of another class");
        let (near, far) = (object(0, 0.5, 1.0), object(0, 0.5, 40.0));
        assert_eq!(scene(&[object(0, 0.5, 0.0), object(0, 0.5, 40.0)], &[far.clone(), near.clone()]), (true, 0.0));
        assert_eq!(scene(&[], std::slice::from_ref(&near)), (false, 0.5), "one that only the other sees");
        assert_eq!(
            scene(&[object(0, 0.5, 0.0), object(0, 0.25, 0.0)], &[near]),
            (false, 0.25),
            "a partner is one's own"
        );
        assert_eq!(scene(&[], &[]), (true, 0.0));
        assert!(!scene(&[object(0, 0.5, f32::NAN)], &[far]).0);
    }

    #[test]
    fn raw_outputs_are_compared_as_a_whole() {
        let output = |values: &[f32]| vec![Tensor::from_f32(vec![values.len()], values).unwrap()];
        let raw = |a: &[f32], b: &[f32]| compare((&[Answer::Raw], &output(a)), (&[Answer::Raw], &output(b)));
        assert_eq!(raw(&[1.0, 2.0], &[1.0, 2.5]).unwrap(), [Row { same: false, delta: 0.5, classes: None }]);
        assert_eq!(raw(&[1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn what_is_of_another_kind_or_number_cannot_be_compared() {
        assert_eq!(compared(class(1, None, 0.5), Answer::Regression { value: 1.0 }), None);
        assert_eq!(compare((&[], &[]), (&[Answer::Raw], &[])), None);
    }
}
