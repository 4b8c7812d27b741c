//! `bundle.toml` as it is written: every section optional but name, version and model; unknown keys are refused, so that
//! a slip of the pen is not silently a default. [`super::resolve`] makes the manifest's statements out of it.

use fieldpost_shared::bundle::manifest::{
    Activation, Align, BoxFormat, BoxLayout, BoxUnit, Budgets, Channels, Encoding, Feature, Fit, Layout, Luma, Missing,
    ResizeFilter, Tolerance, Unknown,
};
use fieldpost_shared::id::ModelName;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Largest `bundle.toml` that is read.
pub const MAX_SOURCE_BYTES: u64 = 1 << 20;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The slot on the device that this release fills.
    pub name: ModelName,
    /// Semantic version.
    pub version: semver::Version,
    /// One line for people.
    #[serde(default)]
    pub note: String,
    /// The graph, relative to the folder.
    pub model: PathBuf,
    /// Sizes for axes that the graph leaves open, by input; every one of the input's axes.
    #[serde(default)]
    pub shapes: BTreeMap<String, Vec<u64>>,
    /// Class names.
    #[serde(default)]
    pub labels: Option<Labels>,
    /// From request to inputs; without it clients send tensors.
    #[serde(default)]
    pub preprocess: Option<PreprocessSource>,
    /// From outputs to answer; without it clients get tensors.
    #[serde(default)]
    pub postprocess: Option<PostprocessSource>,
    /// Data like what the model will meet.
    #[serde(default)]
    pub reference: Option<ReferenceSource>,
    /// What is answered at packing and checked again on each device.
    #[serde(default)]
    pub golden: GoldenSource,
    /// What a box must have.
    #[serde(default)]
    pub requirements: RequirementsSource,
    /// What the release may cost.
    #[serde(default)]
    pub budgets: BudgetsSource,
    /// Where the model comes from.
    #[serde(default)]
    pub lineage: LineageSource,
}

/// Class names: a list, or a file with one a line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Labels {
    /// Written out.
    List(Vec<String>),
    /// In a file beside.
    File(PathBuf),
}

/// From request to inputs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PreprocessSource {
    /// JPEG, PNG, WebP or BMP.
    Image(Box<ImageSource>),
    /// A JSON object of named values.
    Tabular(TabularSource),
    /// UTF-8, as numbers.
    Text(BytesSource),
    /// Any bytes, as numbers.
    Bytes(BytesSource),
}

/// An image input; what is absent is inferred from the tensor's shape.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSource {
    /// Which input it fills.
    pub tensor: Option<String>,
    /// Channels.
    pub channels: Option<Channels>,
    /// Order of the axes.
    pub layout: Option<Layout>,
    /// Pixels in a row.
    pub width: Option<u32>,
    /// Rows.
    pub height: Option<u32>,
    /// Resampling filter; bilinear.
    pub resize: Option<ResizeFilter>,
    /// Factor on the pixel; 1/255 for floating-point inputs, 1 for integers.
    pub scale: Option<f32>,
    /// Subtracted per channel.
    #[serde(default)]
    pub mean: Vec<f32>,
    /// Divides per channel.
    #[serde(default)]
    pub std: Vec<f32>,
    /// How another aspect ratio is brought to the target's; stretched.
    #[serde(default)]
    pub fit: Fit,
    /// The shorter side before a crop.
    pub short_side: Option<u32>,
    /// Where a picture lies in its letterbox.
    #[serde(default)]
    pub align: Align,
    /// Red, green, blue around it; black.
    #[serde(default)]
    pub fill: [u8; 3],
    /// Filters whose support grows when shrinking; yes.
    pub antialias: Option<bool>,
    /// Whether the orientation in EXIF is applied; yes.
    pub exif_orientation: Option<bool>,
    /// Weights of a grey pixel; BT.601, as Pillow and OpenCV weigh them.
    pub luma: Option<Luma>,
    /// What transparency is laid over; dropped.
    pub background: Option<[u8; 3]>,
}

/// A tabular input.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TabularSource {
    /// Which input it fills.
    pub tensor: Option<String>,
    /// Column order; the header of the reference CSV.
    pub features: Option<Vec<String>>,
    /// What an absent feature becomes; refused.
    pub missing: Option<Missing>,
    /// A tensor for each feature, of its name.
    #[serde(default)]
    pub per_feature: bool,
    /// Features that are more than a number.
    #[serde(default)]
    pub feature: BTreeMap<String, FeatureSource>,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureSource {
    /// What it becomes when it is absent; the table's.
    pub missing: Option<Missing>,
    /// The texts it may be, in the model's order.
    pub categories: Vec<String>,
    /// What a category becomes; its index.
    pub encoding: Encoding,
    /// What another text becomes; refused.
    pub unknown: Unknown,
}

impl From<FeatureSource> for Feature {
    fn from(source: FeatureSource) -> Self {
        let FeatureSource { missing, categories, encoding, unknown } = source;
        Self { missing, categories, encoding, unknown }
    }
}

/// Text or bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BytesSource {
    /// Which input it fills.
    pub tensor: Option<String>,
    /// Bytes from the start; as many as the tensor has.
    pub head: Option<u32>,
    /// Bytes from the end; none.
    #[serde(default)]
    pub tail: u32,
    /// What stands where there is no byte; 0.
    #[serde(default)]
    pub pad: i32,
    /// Added to each byte.
    #[serde(default)]
    pub offset: i32,
    /// White space at both ends is left out.
    #[serde(default)]
    pub strip: bool,
}

/// From outputs to answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PostprocessSource {
    /// A label with a score.
    Classification(ClassificationSource),
    /// All labels that hold.
    MultiLabel(MultiLabelSource),
    /// A number.
    Regression(RegressionSource),
    /// Boxes with labels.
    Detection(Box<DetectionSource>),
}

/// A classifier's output.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassificationSource {
    /// Which output it reads.
    pub tensor: Option<String>,
    /// What makes probabilities of it; none.
    pub activation: Option<Activation>,
    /// How many classes are answered; 3, or as many as there are.
    pub top_k: Option<usize>,
    /// Below it the label is `null`.
    pub threshold: Option<f32>,
    /// The same for single labels.
    #[serde(default)]
    pub thresholds: BTreeMap<String, f32>,
}

/// An output with a probability for each label.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiLabelSource {
    /// Which output it reads.
    pub tensor: Option<String>,
    /// What makes probabilities of it; none.
    #[serde(default)]
    pub activation: Activation,
    /// From it on a label holds; 0.5.
    pub threshold: Option<f32>,
    /// The same for single labels.
    #[serde(default)]
    pub thresholds: BTreeMap<String, f32>,
}

/// A detector's outputs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionSource {
    /// How they lie.
    pub layout: BoxLayout,
    /// The output with the boxes, or with everything; the only one.
    pub boxes: Option<String>,
    /// The output with the scores.
    pub scores: Option<String>,
    /// The output with the classes.
    pub classes: Option<String>,
    /// What the four numbers of a box are.
    pub format: BoxFormat,
    /// What they count; pixels.
    #[serde(default)]
    pub unit: BoxUnit,
    /// Whether the fifth number is the probability of any object.
    #[serde(default)]
    pub objectness: bool,
    /// Whether the first class is "nothing".
    #[serde(default)]
    pub background: bool,
    /// What makes probabilities; none.
    #[serde(default)]
    pub activation: Activation,
    /// Below it a box is no object; 0.25.
    pub threshold: Option<f32>,
    /// The same for single labels.
    #[serde(default)]
    pub thresholds: BTreeMap<String, f32>,
    /// Overlap from which the worse of two boxes goes; 0.45.
    pub iou: Option<f32>,
    /// Whether classes stand in each other's way.
    #[serde(default)]
    pub class_agnostic: bool,
    /// Most objects answered; 100.
    pub most: Option<usize>,
}

/// A regression's output.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegressionSource {
    /// Which output it reads.
    pub tensor: Option<String>,
    /// What the number counts.
    pub unit: Option<String>,
}

/// Reference data.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceSource {
    /// A `.npy` or `.csv` file, or a folder of images or JSON files.
    pub data: PathBuf,
}

/// Golden samples.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GoldenSource {
    /// A folder of images or JSON files.
    pub samples: Option<PathBuf>,
    /// How many reference rows when there is no folder.
    pub rows: usize,
    /// How far a device's output may be from the one here.
    pub tolerance: ToleranceSource,
}

impl Default for GoldenSource {
    fn default() -> Self {
        Self { samples: None, rows: 8, tolerance: ToleranceSource::default() }
    }
}

/// Either part of a tolerance may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToleranceSource {
    /// Absolute part.
    pub abs: f64,
    /// Relative part.
    pub rel: f64,
}

impl Default for ToleranceSource {
    fn default() -> Self {
        let Tolerance { abs, rel } = Tolerance::default();
        Self { abs, rel }
    }
}

/// What a box must have.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequirementsSource {
    /// Architectures; empty is any.
    pub arch: Vec<String>,
    /// CPU features as `/proc/cpuinfo` names them.
    pub cpu_features: Vec<String>,
    /// Memory of the box, MiB.
    pub ram_mib: u64,
    /// Free disk beyond the bundle, MiB.
    pub disk_mib: u64,
    /// Lowest agent version.
    pub agent: Option<semver::VersionReq>,
}

/// What the release may cost and how often it may fail.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetsSource {
    /// 95th percentile of one inference, ms.
    pub p95_latency_ms: Option<f64>,
    /// Growth of resident memory, MiB.
    pub rss_mib: Option<f64>,
    /// Share of requests that the model may fail.
    pub error_rate: Option<f64>,
    /// PSI_adj of the outputs.
    pub max_psi: Option<f64>,
    /// Share of shadowed requests with another label.
    pub max_disagreement: Option<f64>,
    /// Median time of a shadowed request as a multiple of the live model's.
    pub max_latency_ratio: Option<f64>,
}

impl From<BudgetsSource> for Budgets {
    fn from(source: BudgetsSource) -> Self {
        Self {
            p95_latency_ms: source.p95_latency_ms,
            rss_mib: source.rss_mib,
            error_rate: source.error_rate,
            max_psi: source.max_psi,
            max_disagreement: source.max_disagreement,
            max_latency_ratio: source.max_latency_ratio,
        }
    }
}

/// Where the model comes from.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LineageSource {
    /// Digest or name of the training data.
    pub data: Option<String>,
    /// Algorithm.
    pub algorithm: Option<String>,
    /// Commit of the training code.
    pub commit: Option<String>,
    /// Release this one was derived from, `name@version`.
    pub parent: Option<String>,
    /// Hyperparameters; any TOML.
    pub hyperparameters: BTreeMap<String, toml::Value>,
    /// Offline metrics.
    pub metrics: BTreeMap<String, f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(text: &str, expected: &str) {
        let error = toml::from_str::<Source>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    const LEAST: &str = "name = 'm'\nversion = '1.0.0'\nmodel = 'm.onnx'\n";

    #[test]
    fn the_template_is_a_source() {
        let template: Source = toml::from_str(super::super::TEMPLATE).unwrap();
        assert_eq!(template.golden, GoldenSource::default());
    }

    /// Each commented section of the template, taken out of its comment, is understood as well.
    #[test]
    fn every_commented_section_of_the_template_is_a_source() {
        let mut sections: Vec<String> = vec![];
        for line in super::super::TEMPLATE.lines().filter_map(|line| line.strip_prefix("# ")) {
            let heading = line.starts_with('[') && line.ends_with(']');
            if heading {
                sections.push(String::new());
            }
            let setting = heading || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
            if let Some(section) = sections.last_mut().filter(|_| setting) {
                section.push_str(&format!("{line}\n"));
            }
        }
        assert_eq!(sections.len(), 16, "{sections:#?}");
        for section in sections {
            toml::from_str::<Source>(&format!("{LEAST}{section}")).unwrap_or_else(|e| panic!("{section}: {e}"));
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_named() {
        check_refused(&format!("{LEAST}lables = 'x'"), "unknown field `lables`");
        check_refused(&format!("{LEAST}[preprocess]\nkind = 'image'\nlayuot = 'nchw'"), "unknown field `layuot`");
        check_refused(&format!("{LEAST}[preprocess]\nkind = 'picture'"), "unknown variant `picture`");
        check_refused(&format!("{LEAST}[golden]\ntolerance = {{ absolute = 1 }}"), "unknown field `absolute`");
    }

    #[test]
    fn what_must_be_there_is_named() {
        check_refused("version = '1.0.0'\nmodel = 'm'", "missing field `name`");
        check_refused("name = 'A b'\nversion = '1.0.0'\nmodel = 'm'", "a model name");
        check_refused("name = 'a'\nversion = '1'\nmodel = 'm'", "version");
    }

    #[test]
    fn labels_missing_and_tolerance_take_their_short_forms() {
        let source: Source = toml::from_str(&format!(
            "{LEAST}labels = ['a', 'b']\n[preprocess]\nkind = 'tabular'\nmissing = {{ value = 0.5 }}\n[golden]\ntolerance = {{ rel = 0.1 }}"
        ))
        .unwrap();
        assert_eq!(source.labels, Some(Labels::List(vec!["a".into(), "b".into()])));
        let Some(PreprocessSource::Tabular(tabular)) = source.preprocess else { panic!("tabular") };
        assert_eq!(tabular.missing, Some(Missing::Value(0.5)));
        assert_eq!((source.golden.tolerance.abs, source.golden.tolerance.rel), (1e-4, 0.1));
    }
}
