//! `[preprocess]`.

use super::super::source::{BytesSource, ImageSource, PreprocessSource, TabularSource};
use super::{ResolveError, colours, conflict, fixed, once, pick, shape};
use fieldpost_shared::bundle::manifest::{
    BytesInput, Channels, ImageInput, Layout, Luma, Missing, Preprocess, ResizeFilter, TabularInput,
};
use fieldpost_shared::bundle::{Dim, TensorSpec};

/// From request to inputs. `header` names the columns of a reference CSV, where there is one.
///
/// # Errors
/// When the source leaves something open that the shapes do not tell, or contradicts them.
pub fn preprocess(
    source: Option<&PreprocessSource>,
    inputs: &[TensorSpec],
    header: Option<&[String]>,
) -> Result<Preprocess, ResolveError> {
    match source {
        None => Ok(Preprocess::Tensor),
        Some(PreprocessSource::Image(source)) => {
            let spec = pick("preprocess", "input", source.tensor.as_deref(), inputs)?;
            image(source, spec).map(Preprocess::Image)
        }
        Some(PreprocessSource::Tabular(source)) if source.per_feature => {
            per_feature(source, inputs).map(Preprocess::Tabular)
        }
        Some(PreprocessSource::Tabular(source)) => {
            let spec = pick("preprocess", "input", source.tensor.as_deref(), inputs)?;
            tabular(source, spec, header).map(Preprocess::Tabular)
        }
        Some(PreprocessSource::Text(source)) => {
            let spec = pick("preprocess", "input", source.tensor.as_deref(), inputs)?;
            bytes(source, spec, true).map(Preprocess::Bytes)
        }
        Some(PreprocessSource::Bytes(source)) => {
            let spec = pick("preprocess", "input", source.tensor.as_deref(), inputs)?;
            bytes(source, spec, false).map(Preprocess::Bytes)
        }
    }
}

fn tabular(source: &TabularSource, spec: &TensorSpec, header: Option<&[String]>) -> Result<TabularInput, ResolveError> {
    let features = source.features.as_deref().or(header).ok_or(ResolveError::NoFeatures)?.to_vec();
    once("feature", &features)?;
    let made = table(source, spec.name.clone(), features);
    let width = made.columns().len();
    match spec.shape.as_slice() {
        [_, Dim::Symbol(_)] => Ok(made),
        [_, columns] if fixed(columns) == Some(width) => Ok(made),
        [_, _] => Err(conflict("preprocess", "the number of features", width, spec)),
        _ => Err(shape("preprocess", spec, "a tabular input is [N, features]")),
    }
}

/// A tensor for each feature; named by the model where the source does not list them.
fn per_feature(source: &TabularSource, inputs: &[TensorSpec]) -> Result<TabularInput, ResolveError> {
    let by_model = || inputs.iter().map(|spec| spec.name.clone()).collect();
    let features: Vec<String> = source.features.clone().unwrap_or_else(by_model);
    once("feature", &features)?;
    if let Some(tensor) = &source.tensor {
        let spec = pick("preprocess", "input", Some(tensor), inputs)?;
        return Err(conflict("preprocess", "per_feature", "true, which fills every input, not `tensor` alone", spec));
    }
    let made = table(source, String::new(), features);
    for feature in &made.features {
        let spec = pick("preprocess", "input", Some(feature), inputs)?;
        let width = made.width(feature);
        match spec.shape.as_slice() {
            [_] if width == 1 => {}
            [_, Dim::Symbol(_)] => {}
            [_, columns] if fixed(columns) == Some(width) => {}
            _ => return Err(conflict("preprocess", "the number of columns of a feature", width, spec)),
        }
    }
    match inputs.iter().find(|spec| !made.features.contains(&spec.name)) {
        Some(spec) => Err(conflict("preprocess", "features", "a list without it", spec)),
        None => Ok(made),
    }
}

fn table(source: &TabularSource, tensor: String, features: Vec<String>) -> TabularInput {
    TabularInput {
        tensor,
        features,
        missing: source.missing.unwrap_or(Missing::Refuse),
        per_feature: source.per_feature,
        details: source.feature.iter().map(|(name, feature)| (name.clone(), feature.clone().into())).collect(),
    }
}

fn bytes(source: &BytesSource, spec: &TensorSpec, utf8: bool) -> Result<BytesInput, ResolveError> {
    const SECTION: &str = "preprocess";
    let length = match spec.shape.as_slice() {
        [length] | [_, length] => fixed(length).and_then(|length| u32::try_from(length).ok()),
        _ => return Err(shape(SECTION, spec, "text or bytes fill [N, length] or [length]")),
    };
    let head = match (source.head, length) {
        (Some(head), Some(length)) if head.checked_add(source.tail) != Some(length) => {
            return Err(conflict(SECTION, "head and tail together", u64::from(head) + u64::from(source.tail), spec));
        }
        (Some(head), _) => head,
        (None, Some(length)) => match length.checked_sub(source.tail) {
            Some(head) => head,
            None => return Err(conflict(SECTION, "tail", source.tail, spec)),
        },
        (None, None) => {
            let (tensor, shape) = (spec.name.clone(), spec.shape_text());
            return Err(ResolveError::Open { section: SECTION, key: "head", tensor, shape });
        }
    };
    let BytesSource { tail, pad, offset, strip, .. } = *source;
    Ok(BytesInput { tensor: spec.name.clone(), head, tail, pad, offset, strip, utf8 })
}

fn image(source: &ImageSource, spec: &TensorSpec) -> Result<ImageInput, ResolveError> {
    const SECTION: &str = "preprocess";
    let open = |key| ResolveError::Open { section: SECTION, key, tensor: spec.name.clone(), shape: spec.shape_text() };
    let layout = match (source.layout, spec.shape.as_slice()) {
        (Some(Layout::Flat) | None, [_, _]) => Layout::Flat,
        (Some(layout @ (Layout::Nchw | Layout::Nhwc)), [_, _, _, _]) => layout,
        (None, [_, first, _, last]) => match (colours(first), colours(last)) {
            (false, true) => Layout::Nhwc,
            // Where both fit, or an axis is symbolic, ONNX's own convention holds.
            _ => Layout::Nchw,
        },
        _ => return Err(shape(SECTION, spec, "an image is [N,C,H,W], [N,H,W,C], or flat [N,pixels]")),
    };
    let (channel_axis, height_axis, width_axis) = match (layout, spec.shape.as_slice()) {
        (Layout::Nchw, [_, c, h, w]) | (Layout::Nhwc, [_, h, w, c]) => (fixed(c), fixed(h), fixed(w)),
        _ => (None, None, None),
    };
    let side = |key, said: Option<u32>, axis: Option<usize>| match (said, axis.map(u32::try_from)) {
        (Some(said), Some(Ok(axis))) if said != axis => Err(conflict(SECTION, key, said, spec)),
        (Some(said), _) => Ok(said),
        (None, Some(Ok(axis))) => Ok(axis),
        (None, _) => Err(open(key)),
    };
    let (width, height) = (side("width", source.width, width_axis)?, side("height", source.height, height_axis)?);
    let pixels = usize::try_from(u64::from(width) * u64::from(height)).ok();
    let flat = match (layout, spec.shape.as_slice()) {
        (Layout::Flat, [_, values]) => fixed(values),
        _ => None,
    };
    let counted = channel_axis.or_else(|| {
        let pixels = pixels.filter(|n| *n > 0)?;
        flat.filter(|values| values % pixels == 0).map(|values| values / pixels)
    });
    let channels = match (source.channels, counted) {
        (Some(said), Some(count)) if said.count() != count => {
            return Err(conflict(SECTION, "the number of channels", said.count(), spec));
        }
        (Some(said), _) => said,
        (None, Some(1)) => Channels::Gray,
        (None, Some(3)) => Channels::Rgb,
        (None, _) => return Err(open("channels")),
    };
    let values = pixels.and_then(|pixels| pixels.checked_mul(channels.count()));
    if flat.is_some() && flat != values {
        return Err(conflict(SECTION, "the number of values", values.unwrap_or(usize::MAX), spec));
    }
    let default_scale = if spec.dtype.is_float() { 1.0 / 255.0 } else { 1.0 };
    Ok(ImageInput {
        tensor: spec.name.clone(),
        width,
        height,
        channels,
        layout,
        resize: source.resize.unwrap_or(ResizeFilter::Bilinear),
        scale: source.scale.unwrap_or(default_scale),
        mean: source.mean.clone(),
        std: source.std.clone(),
        fit: source.fit,
        short_side: source.short_side,
        align: source.align,
        fill: source.fill,
        antialias: source.antialias.unwrap_or(true),
        exif_orientation: source.exif_orientation.unwrap_or(true),
        luma: source.luma.unwrap_or(if channels == Channels::Gray { Luma::Bt601 } else { Luma::default() }),
        background: source.background,
    })
}
