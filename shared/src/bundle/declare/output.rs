//! From outputs to an answer for people.

use super::{DeclarationError, MAX_BOXES, is_default, refuse, share};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How output tensors become an answer for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Postprocess {
    /// Outputs as they are.
    #[default]
    Raw,
    /// One output of shape `[N, classes]` becomes a label with a score.
    Classification(ClassificationOutput),
    /// One output of shape `[N, labels]` becomes all the labels that hold.
    MultiLabel(MultiLabelOutput),
    /// One output of shape `[N]` or `[N, 1]` becomes a number.
    Regression {
        /// The model output it reads.
        tensor: String,
        /// What the number counts, for people: `kWh`, `mm`.
        #[serde(default, skip_serializing_if = "is_default")]
        unit: Option<String>,
    },
    /// Boxes with labels, suppressed where they cover the same thing.
    Detection(DetectionOutput),
}

impl Postprocess {
    /// Refuses what contradicts itself, whatever the model. `labels` are the class names.
    ///
    /// # Errors
    /// With the key.
    pub fn check(&self, labels: &[String]) -> Result<(), DeclarationError> {
        match self {
            Self::Raw => Ok(()),
            Self::Classification(output) => thresholds(&output.thresholds, labels),
            Self::MultiLabel(output) => {
                share("threshold", output.threshold)?;
                thresholds(&output.thresholds, labels)
            }
            Self::Regression { unit, .. } => match unit {
                Some(unit) if unit.chars().count() > 40 || unit.chars().any(char::is_control) => {
                    refuse("unit is one line of at most 40 characters")
                }
                _ => Ok(()),
            },
            Self::Detection(output) => output.check(labels),
        }
    }
}

/// Every one is a share, and of a label that there is.
fn thresholds(thresholds: &BTreeMap<String, f32>, labels: &[String]) -> Result<(), DeclarationError> {
    for (label, threshold) in thresholds {
        share(&format!("thresholds.{label}"), *threshold)?;
        if !labels.contains(label) {
            return refuse(format!("thresholds.{label} is of none of the labels"));
        }
    }
    Ok(())
}

/// From scores to a label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassificationOutput {
    /// The model output it reads.
    pub tensor: String,
    /// What turns the output into probabilities.
    pub activation: Activation,
    /// How many classes are answered, best first.
    pub top_k: usize,
    /// Below this score the label is `null`.
    pub threshold: Option<f32>,
    /// The same for single labels, by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub thresholds: BTreeMap<String, f32>,
}

/// From scores to all the labels that hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelOutput {
    /// The model output it reads.
    pub tensor: String,
    /// What turns the output into probabilities, each by itself.
    pub activation: Activation,
    /// From this score on a label holds.
    pub threshold: f32,
    /// The same for single labels, by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub thresholds: BTreeMap<String, f32>,
}

/// What turns scores into probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// They already are.
    #[default]
    None,
    /// exp(x - max) / sum.
    Softmax,
    /// 1 / (1 + exp(-x)); a single column is the probability of the second of two labels.
    Sigmoid,
}

/// From boxes and scores to objects: threshold, best class of each box, non-maximum suppression, back to the pixels of
/// the picture that was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectionOutput {
    /// How boxes, scores and classes lie in the outputs.
    pub layout: BoxLayout,
    /// The output with the boxes, or with everything.
    pub boxes: String,
    /// The output with the scores, where it is another one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scores: Option<String>,
    /// The output with the classes, with [`BoxLayout::Final`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub classes: Option<String>,
    /// What the four numbers of a box are.
    pub format: BoxFormat,
    /// What they count.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unit: BoxUnit,
    /// Whether the fifth number of an anchor is the probability of any object, a factor on the others.
    #[serde(default, skip_serializing_if = "is_default")]
    pub objectness: bool,
    /// Whether the first class is "nothing", which has no label; the second class is then that of the first label.
    #[serde(default, skip_serializing_if = "is_default")]
    pub background: bool,
    /// What turns scores into probabilities.
    pub activation: Activation,
    /// Boxes below this score are no objects.
    pub threshold: f32,
    /// The same for single labels, by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub thresholds: BTreeMap<String, f32>,
    /// Of two boxes whose intersection is more than this share of their union, the worse goes. 1 keeps all.
    pub iou: f32,
    /// Whether boxes of different classes stand in each other's way.
    #[serde(default, skip_serializing_if = "is_default")]
    pub class_agnostic: bool,
    /// Most objects that are answered, best first.
    pub most: usize,
}

impl DetectionOutput {
    fn check(&self, labels: &[String]) -> Result<(), DeclarationError> {
        share("threshold", self.threshold)?;
        share("iou", self.iou)?;
        thresholds(&self.thresholds, labels)?;
        let (scores, classes) = (self.scores.is_some(), self.classes.is_some());
        match self.layout {
            BoxLayout::Separate if !scores || classes => refuse("layout `separate` needs `scores`, and no `classes`"),
            BoxLayout::Final if !scores || !classes => refuse("layout `final` needs `scores` and `classes`"),
            BoxLayout::AnchorsLast | BoxLayout::AnchorsFirst | BoxLayout::Rows if scores || classes => {
                refuse("this layout has everything in `boxes`: leave `scores` and `classes` out")
            }
            BoxLayout::Separate | BoxLayout::Final | BoxLayout::Rows if self.objectness => {
                refuse("`objectness` belongs to the layouts `anchors-last` and `anchors-first`")
            }
            BoxLayout::AnchorsLast | BoxLayout::AnchorsFirst if self.background => {
                refuse("`background` belongs to the layouts `separate`, `final` and `rows`")
            }
            BoxLayout::Final | BoxLayout::Rows if self.activation == Activation::Softmax => {
                refuse("a single score has no softmax")
            }
            _ => Ok(()),
        }?;
        if (1..=MAX_BOXES).contains(&self.most) {
            Ok(())
        } else {
            refuse(format!("most is {}, not within 1..={MAX_BOXES}", self.most))
        }
    }
}

/// How boxes, scores and classes lie in the outputs. A is anchors, D detections, C classes; the batch axis is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoxLayout {
    /// `[1, 4 + C, A]`, or `[1, 5 + C, A]` with objectness: YOLOv8 and after.
    AnchorsLast,
    /// `[1, A, 4 + C]`, or `[1, A, 5 + C]` with objectness: YOLOv5, v7, YOLOX.
    AnchorsFirst,
    /// Boxes `[1, A, 4]`, scores `[1, A, C]`: SSD, RetinaNet.
    Separate,
    /// Boxes `[1, D, 4]`, scores `[1, D]`, classes `[1, D]`, each with or without the batch axis: what is already
    /// suppressed, as by TensorFlow's detection API and torchvision. Suppression is done once more; `iou = 1` keeps all.
    Final,
    /// `[1, D, 6]` or `[D, 6]`: four numbers of the box, score, class: YOLOv10, exports with suppression.
    Rows,
}

/// What the four numbers of a box are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoxFormat {
    /// left, top, right, bottom
    Xyxy,
    /// top, left, bottom, right
    Yxyx,
    /// centre x, centre y, width, height
    Cxcywh,
    /// left, top, width, height
    Xywh,
}

/// What the numbers of a box count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BoxUnit {
    /// Pixels of the model's input.
    #[default]
    Pixels,
    /// Shares of the model's input, 0..=1.
    Relative,
}
