//! Images.

use super::{DeclarationError, is_default, refuse};
use serde::{Deserialize, Serialize};

/// Decode, turn, bring to size, scale, normalise, lay out. Value = (pixel * scale - mean\[c\]) / std\[c\], pixel in 0..=255.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageInput {
    /// The model input it fills.
    pub tensor: String,
    /// Target width in pixels.
    pub width: u32,
    /// Target height in pixels.
    pub height: u32,
    /// Channels of the tensor.
    pub channels: Channels,
    /// Order of the axes.
    pub layout: Layout,
    /// Resampling filter, where the image has another size.
    pub resize: ResizeFilter,
    /// Factor on the pixel.
    pub scale: f32,
    /// Subtracted per channel, after `scale`; empty is 0.
    pub mean: Vec<f32>,
    /// Divides per channel; empty is 1.
    pub std: Vec<f32>,
    /// How another aspect ratio is brought to the target's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fit: Fit,
    /// With [`Fit::Crop`]: the shorter side is brought to this many pixels first, then the target is cut out. None is the
    /// smallest size that covers the target.
    #[serde(default, skip_serializing_if = "is_default")]
    pub short_side: Option<u32>,
    /// Where the image lies in a letterbox.
    #[serde(default, skip_serializing_if = "is_default")]
    pub align: Align,
    /// Red, green, blue of what the image does not cover.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fill: [u8; 3],
    /// Whether filters shrink with a support that grows with the factor (Pillow, torchvision with `antialias=True`), or
    /// look at their few nearest pixels only (OpenCV's `resize`).
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub antialias: bool,
    /// Whether the orientation stated in EXIF is applied.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exif_orientation: bool,
    /// Weights of the colours in a grey pixel.
    #[serde(default, skip_serializing_if = "is_default")]
    pub luma: Luma,
    /// Red, green, blue that a transparent pixel is laid over; none drops alpha.
    #[serde(default, skip_serializing_if = "is_default")]
    pub background: Option<[u8; 3]>,
}

const fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_yes(value: &bool) -> bool {
    *value
}

impl Default for ImageInput {
    /// One pixel in three colours, unchanged.
    fn default() -> Self {
        Self {
            tensor: String::new(),
            width: 1,
            height: 1,
            channels: Channels::Rgb,
            layout: Layout::Nchw,
            resize: ResizeFilter::Bilinear,
            scale: 1.0,
            mean: Vec::new(),
            std: Vec::new(),
            fit: Fit::Stretch,
            short_side: None,
            align: Align::Centre,
            fill: [0; 3],
            antialias: true,
            exif_orientation: false,
            luma: Luma::Bt709,
            background: None,
        }
    }
}

impl ImageInput {
    /// Sides within 1..=8192, as many means as channels, and numbers that can be divided by.
    pub(super) fn check(&self) -> Result<(), DeclarationError> {
        let channels = self.channels.count();
        let side = 1..=8192;
        if !side.contains(&self.width) || !side.contains(&self.height) {
            return refuse(format!("image size {}x{} is not within 1..=8192", self.width, self.height));
        }
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            if !values.is_empty() && values.len() != channels {
                return refuse(format!("mean and std need {channels} values or none, {key} has {}", values.len()));
            }
        }
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !finite(&self.std) || self.std.contains(&0.0) || !finite(&self.mean) || !self.scale.is_finite() {
            return refuse("scale, mean and std must be finite, std not 0");
        }
        match (self.fit, self.short_side) {
            (Fit::Crop, Some(short)) if !side.contains(&short) || short < self.width.min(self.height) => {
                refuse(format!(
                    "short_side is {short}: it must cover the {}x{} that are cut out, and be at most 8192",
                    self.width, self.height
                ))
            }
            (Fit::Crop, _) | (_, None) => Ok(()),
            (_, Some(_)) => refuse("short_side has a meaning with fit = \"crop\" alone"),
        }
    }
}

/// Colour channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// One: luma, weighed as [`Luma`] says.
    Gray,
    /// Three: red, green, blue.
    Rgb,
    /// Three: blue, green, red.
    Bgr,
}

impl Channels {
    /// How many.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::Bgr => 3,
        }
    }
}

/// Order of an image tensor's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// batch, channel, row, column
    Nchw,
    /// batch, row, column, channel
    Nhwc,
    /// batch, all pixels in row-major order, channels innermost
    Flat,
}

/// Resampling filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeFilter {
    /// Nearest neighbour.
    Nearest,
    /// Mean of the pixels covered (Pillow's BOX).
    Box,
    /// Triangle filter, with antialiasing when shrinking (Pillow's BILINEAR).
    Bilinear,
    /// Catmull-Rom cubic, a = -0.5 (Pillow's BICUBIC).
    #[serde(alias = "bicubic")]
    CatmullRom,
    /// Lanczos, a = 3 (Pillow's LANCZOS).
    #[serde(alias = "lanczos")]
    Lanczos3,
}

/// How another aspect ratio is brought to the target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Both sides on their own: the picture is distorted.
    #[default]
    Stretch,
    /// Resized until it covers the target, then the middle is cut out (torchvision: `Resize(short_side)`,
    /// `CenterCrop`). The longer side is rounded down, the crop's offset half to even.
    Crop,
    /// The middle of the picture as it is; what is smaller is padded with `fill`.
    CentreCrop,
    /// Resized until it fits into the target, the rest is `fill` (YOLO's letterbox). Sides are rounded half to even.
    Letterbox,
}

/// Where a picture lies in its letterbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Align {
    /// In the middle; an odd pixel is below and to the right.
    #[default]
    Centre,
    /// In the upper left corner.
    TopLeft,
}

/// Weights of red, green and blue in a grey pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Luma {
    /// ITU-R BT.709, as the `image` crate weighs them. What manifests without the field mean.
    #[default]
    Bt709,
    /// ITU-R BT.601: 0.299, 0.587, 0.114, as Pillow's `convert("L")` and OpenCV weigh them.
    Bt601,
}
