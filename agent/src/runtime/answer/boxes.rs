//! From boxes and scores to objects: threshold, best class, non-maximum suppression, back to the picture.
//!
//! Suppression is greedy from the best score down, equal ones by anchor: a box goes when its intersection with a kept one is
//! more than `iou` of their union (torchvision's `nms`); of the same class, unless the bundle says `class_agnostic`.
//! Scores and boxes that are NaN or infinite are no objects.

use super::classes::{descending, sigmoid, softmax};
use super::{Answer, Found, find, output_of, refusal};
use crate::runtime::contract::{spec_text, tensor_text};
use crate::runtime::error::{InferError, LoadError};
use crate::runtime::prepare::Frame;
use fieldpost_shared::bundle::manifest::{Activation, BoxFormat, BoxLayout, BoxUnit, DetectionOutput, Preprocess};
use fieldpost_shared::bundle::{Dim, Manifest, Tensor, TensorSpec};

/// Most boxes that suppression looks at, the best ones: its time grows with their number.
const MAX_CANDIDATES: usize = 10_000;

/// [`DetectionOutput`], checked.
#[derive(Debug)]
pub(super) struct Boxes {
    declared: DetectionOutput,
    /// Where the outputs stand.
    boxes: usize,
    scores: usize,
    classes: usize,
    /// Of each class, where they differ.
    thresholds: Vec<f32>,
    /// Width and height of the model's input, where the bundle takes images.
    input: Option<(u32, u32)>,
}

/// A box above its threshold: left, top, right, bottom in pixels of the model's input.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    bounds: [f64; 4],
    class: usize,
    score: f32,
}

/// What one picture's outputs hold of one anchor.
struct Anchor<'a> {
    bounds: [f64; 4],
    objectness: Option<f64>,
    scores: Scores<'a>,
}

enum Scores<'a> {
    /// Of each class.
    Each(&'a mut dyn Iterator<Item = f64>),
    /// Of the one that was chosen already.
    One { class: f64, score: f64 },
}

impl Boxes {
    pub(super) fn new(
        declared: &DetectionOutput,
        manifest: &Manifest,
        thresholds: Vec<f32>,
    ) -> Result<Self, LoadError> {
        let (boxes, spec) = find(manifest, &declared.boxes)?;
        let place =
            |name: &Option<String>| name.as_ref().map_or(Ok(boxes), |name| find(manifest, name).map(|(at, _)| at));
        let (scores, classes) = (place(&declared.scores)?, place(&declared.classes)?);
        let input = match &manifest.preprocess {
            Preprocess::Image(image) => Some((image.width, image.height)),
            _ => None,
        };
        let made = Self { declared: declared.clone(), boxes, scores, classes, thresholds, input };
        made.check(spec, manifest).map_err(|detail| refusal(&declared.boxes, detail))?;
        if declared.unit == BoxUnit::Relative && input.is_none() {
            let detail = "boxes in shares of the input need [preprocess] kind = \"image\"".to_owned();
            return Err(refusal(&declared.boxes, detail));
        }
        Ok(made)
    }

    /// Numbers of an anchor before its classes.
    fn before(&self) -> usize {
        4 + usize::from(self.declared.objectness)
    }

    fn check(&self, spec: &TensorSpec, manifest: &Manifest) -> Result<(), String> {
        let labels = manifest.labels.len();
        let fixed = |dim: Option<&Dim>| match dim {
            Some(Dim::Fixed(size)) => usize::try_from(*size).ok(),
            _ => None,
        };
        let (wanted, rank) = match self.declared.layout {
            BoxLayout::AnchorsLast => ("[N, numbers, anchors]", 3..=3),
            BoxLayout::AnchorsFirst => ("[N, anchors, numbers]", 3..=3),
            BoxLayout::Separate => ("[N, anchors, 4]", 3..=3),
            BoxLayout::Final => ("[N, boxes, 4] or [boxes, 4]", 2..=3),
            BoxLayout::Rows => ("[N, boxes, 6] or [boxes, 6]", 2..=3),
        };
        if !rank.contains(&spec.shape.len()) {
            return Err(format!("this layout is {wanted}, the output is {}", spec_text(spec)));
        }
        let scores = manifest.outputs.get(self.scores);
        let (numbers, exact) = match self.declared.layout {
            BoxLayout::AnchorsLast => (fixed(spec.shape.get(1)), None),
            BoxLayout::AnchorsFirst => (fixed(spec.shape.last()), None),
            BoxLayout::Separate | BoxLayout::Final => (fixed(spec.shape.last()), Some(4)),
            BoxLayout::Rows => (fixed(spec.shape.last()), Some(6)),
        };
        if let (Some(numbers), Some(exact)) = (numbers, exact)
            && numbers != exact
        {
            return Err(format!("this layout is {wanted}, the output is {}", spec_text(spec)));
        }
        let classes = match self.declared.layout {
            BoxLayout::AnchorsLast | BoxLayout::AnchorsFirst => match numbers {
                Some(numbers) if numbers <= self.before() => {
                    let before = self.before();
                    return Err(format!("an anchor has {numbers} numbers, {before} come before the classes"));
                }
                numbers => numbers.map(|numbers| numbers - self.before()),
            },
            BoxLayout::Separate => scores
                .and_then(|scores| fixed(scores.shape.last()))
                .map(|classes| classes.saturating_sub(usize::from(self.declared.background))),
            BoxLayout::Final | BoxLayout::Rows => None,
        };
        match classes {
            Some(classes) if labels != 0 && labels != classes => {
                Err(format!("{labels} labels for {classes} classes of {}", spec_text(spec)))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn answer(
        &self,
        manifest: &Manifest,
        outputs: &[Tensor],
        frame: Option<&Frame>,
    ) -> Result<Vec<Answer>, InferError> {
        let (spec, boxes) = output_of(manifest, outputs, self.boxes)?;
        let (_, scores) = output_of(manifest, outputs, self.scores)?;
        let (_, classes) = output_of(manifest, outputs, self.classes)?;
        let pictures = if boxes.shape.len() == 3 { boxes.shape.first().copied().unwrap_or(0) } else { 1 };
        let wrong = |found: &Tensor| InferError::Output {
            output: spec.name.clone(),
            expected: format!("{} and what belongs to it", spec_text(spec)),
            found: tensor_text(found),
        };
        let part = |tensor: &Tensor| -> Result<Vec<Vec<f64>>, InferError> {
            let values = tensor.to_f64();
            let each = values.len().checked_div(pictures).unwrap_or(0);
            if each * pictures != values.len() {
                return Err(wrong(tensor));
            }
            if each == 0 {
                return Ok(vec![Vec::new(); pictures]);
            }
            Ok(values.chunks_exact(each).map(<[f64]>::to_vec).collect())
        };
        let boxes_of = part(boxes)?;
        let scores_of = if self.scores == self.boxes { boxes_of.clone() } else { part(scores)? };
        let classes_of = if self.classes == self.boxes { Vec::new() } else { part(classes)? };
        let anchors = match self.declared.layout {
            BoxLayout::AnchorsLast => boxes.shape.last().copied().unwrap_or(0),
            _ => boxes.shape.iter().rev().nth(1).copied().unwrap_or(0),
        };
        let picture = |(at, values): (usize, &Vec<f64>)| -> Result<Answer, InferError> {
            let none = Vec::new();
            let (scores, classes) = (scores_of.get(at).unwrap_or(&none), classes_of.get(at).unwrap_or(&none));
            let mut candidates = Vec::new();
            if anchors > 0 {
                self.collect(values, scores, classes, anchors, frame, &mut candidates).ok_or_else(|| wrong(boxes))?;
            }
            let objects = self.suppress(candidates).into_iter().map(|kept| self.found(kept, manifest, frame)).collect();
            Ok(Answer::Detection { objects })
        };
        boxes_of.iter().enumerate().map(picture).collect()
    }

    /// Every anchor above its threshold. None when the outputs do not belong together.
    fn collect(
        &self,
        values: &[f64],
        scores: &[f64],
        classes: &[f64],
        anchors: usize,
        frame: Option<&Frame>,
        candidates: &mut Vec<Candidate>,
    ) -> Option<()> {
        let numbers = values.len() / anchors;
        let offered = scores.len() / anchors;
        let fits = match self.declared.layout {
            BoxLayout::AnchorsLast | BoxLayout::AnchorsFirst => numbers > self.before(),
            BoxLayout::Separate => numbers == 4 && offered > 0 && offered * anchors == scores.len(),
            BoxLayout::Final => numbers == 4 && scores.len() == anchors && classes.len() == anchors,
            BoxLayout::Rows => numbers == 6,
        };
        if !fits || numbers * anchors != values.len() {
            return None;
        }
        for anchor in 0..anchors {
            let number = |index: usize| match self.declared.layout {
                BoxLayout::AnchorsLast => values.get(index * anchors + anchor),
                _ => values.get(anchor * numbers + index),
            };
            let number = |index: usize| number(index).copied().unwrap_or(f64::NAN);
            let bounds = [number(0), number(1), number(2), number(3)];
            let mut inside = (self.before()..numbers).map(number);
            let mut beside = scores.iter().skip(anchor * offered).take(offered).copied();
            let of = |list: &[f64]| list.get(anchor).copied().unwrap_or(f64::NAN);
            let scores = match self.declared.layout {
                BoxLayout::AnchorsLast | BoxLayout::AnchorsFirst => Scores::Each(&mut inside),
                BoxLayout::Separate => Scores::Each(&mut beside),
                BoxLayout::Final => Scores::One { class: of(classes), score: of(scores) },
                BoxLayout::Rows => Scores::One { class: number(5), score: number(4) },
            };
            let objectness = self.declared.objectness.then(|| number(4));
            candidates.extend(self.candidate(Anchor { bounds, objectness, scores }, frame));
        }
        Some(())
    }

    fn candidate(&self, anchor: Anchor<'_>, frame: Option<&Frame>) -> Option<Candidate> {
        let alone = |value: f64| if self.declared.activation == Activation::Sigmoid { sigmoid(value) } else { value };
        let (class, score) = match anchor.scores {
            Scores::One { class, score } => (whole(class)?, alone(score)),
            Scores::Each(scores) if self.declared.activation == Activation::Softmax => {
                best(softmax(&scores.collect::<Vec<_>>()).into_iter(), self.declared.background)?
            }
            Scores::Each(scores) => {
                let (class, score) = best(scores, self.declared.background)?;
                (class, alone(score))
            }
        };
        // The class of nothing comes first, and has no label.
        let class = if self.declared.background { class.checked_sub(1)? } else { class };
        #[allow(clippy::cast_possible_truncation, reason = "a probability in binary32 is precise enough")]
        let score = (score * anchor.objectness.map_or(1.0, alone)) as f32;
        let threshold = self.thresholds.get(class).copied().unwrap_or(self.declared.threshold);
        if !(score >= threshold && score.is_finite()) {
            return None;
        }
        let bounds = self.bounds(anchor.bounds, frame);
        bounds.iter().all(|side| side.is_finite()).then_some(Candidate { bounds, class, score })
    }

    /// Left, top, right, bottom in pixels of the model's input.
    fn bounds(&self, [a, b, c, d]: [f64; 4], frame: Option<&Frame>) -> [f64; 4] {
        let [left, top, right, bottom] = match self.declared.format {
            BoxFormat::Xyxy => [a, b, c, d],
            BoxFormat::Yxyx => [b, a, d, c],
            BoxFormat::Cxcywh => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
            BoxFormat::Xywh => [a, b, a + c, b + d],
        };
        match (self.declared.unit, frame.map(|frame| frame.input).or(self.input)) {
            (BoxUnit::Relative, Some((width, height))) => {
                let (width, height) = (f64::from(width), f64::from(height));
                [left * width, top * height, right * width, bottom * height]
            }
            _ => [left, top, right, bottom],
        }
    }

    fn suppress(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        // Stable: equal scores stay in the order of their anchors.
        candidates.sort_by(|a, b| descending(a.score, b.score));
        candidates.truncate(MAX_CANDIDATES);
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in candidates {
            if kept.len() >= self.declared.most {
                break;
            }
            let rival = |other: &&Candidate| self.declared.class_agnostic || other.class == candidate.class;
            let limit = f64::from(self.declared.iou);
            if !kept.iter().filter(rival).any(|other| overlap(other.bounds, candidate.bounds) > limit) {
                kept.push(candidate);
            }
        }
        kept
    }

    fn found(&self, kept: Candidate, manifest: &Manifest, frame: Option<&Frame>) -> Found {
        let [left, top, right, bottom] = kept.bounds;
        let corner = |x: f64, y: f64| frame.map_or((x, y), |frame| frame.back(x, y));
        let ((left, top), (right, bottom)) = (corner(left, top), corner(right, bottom));
        #[allow(clippy::cast_possible_truncation, reason = "pixels in binary32 are precise to a thousandth")]
        let bounds = [left as f32, top as f32, right as f32, bottom as f32];
        Found { class: kept.class, label: manifest.labels.get(kept.class).cloned(), score: kept.score, bounds }
    }
}

/// The class with the highest score, the first of equal ones; the class of nothing may not win, it only takes its share.
fn best(scores: impl Iterator<Item = f64>, background: bool) -> Option<(usize, f64)> {
    let numbered = scores.enumerate().skip(usize::from(background)).filter(|(_, score)| !score.is_nan());
    numbered.fold(None, |best, (class, score)| match best {
        Some((_, highest)) if score <= highest => best,
        _ => Some((class, score)),
    })
}

/// A class as a number; none for what is no index.
fn whole(class: f64) -> Option<usize> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and within 0..2^20, as just checked"
    )]
    (class.fract() == 0.0 && (0.0..1_048_576.0).contains(&class)).then_some(class as usize)
}

/// Intersection over union; 0 for boxes without area.
pub(super) fn overlap([left, top, right, bottom]: [f64; 4], [left2, top2, right2, bottom2]: [f64; 4]) -> f64 {
    let side = |from: f64, to: f64| (to - from).max(0.0);
    let shared = side(left.max(left2), right.min(right2)) * side(top.max(top2), bottom.min(bottom2));
    let all = side(left, right) * side(top, bottom) + side(left2, right2) * side(top2, bottom2) - shared;
    if all > 0.0 { shared / all } else { 0.0 }
}
