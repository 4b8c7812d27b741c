//! A JPEG, PNG, WebP or BMP becomes one tensor: decode, turn, convert to channels, bring to size, scale, normalise, lay out.
//!
//! In that order, on 8-bit channels until the last step (16-bit images are reduced first), as Pillow does it. Coordinates
//! that come back are those of the turned picture.
//! Buffers: decoded pixels (converted only where the file has other channels), resized pixels (only where the size
//! differs), the canvas (only where the picture does not cover it), the tensor.

mod decode;
mod elements;
mod memory;
mod plan;

use crate::runtime::contract::spec_text;
use crate::runtime::error::{InputError, LoadError};
use decode::{Pixels, decode, luma};
use elements::{Elements, shape};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, ImageView, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use fieldpost_shared::bundle::manifest::{Channels, ImageInput, ResizeFilter};
use fieldpost_shared::bundle::{Dtype, Tensor, TensorSpec};
use plan::Plan;

pub use plan::Frame;

/// [`ImageInput`], checked, with its arithmetic made into tables.
#[derive(Debug)]
pub(in crate::runtime) struct ImageToTensor {
    declared: ImageInput,
    dtype: Dtype,
    shape: Vec<usize>,
    resize: ResizeOptions,
    elements: Elements,
}

impl ImageToTensor {
    pub(super) fn new(declared: &ImageInput, spec: &TensorSpec) -> Result<Self, LoadError> {
        let refuse =
            |detail: String| LoadError::Declaration { what: "pre-processing", tensor: spec.name.clone(), detail };
        let shape = shape(declared, spec).ok_or_else(|| {
            refuse(format!("one image of {} does not fill {}", declared_text(declared), spec_text(spec)))
        })?;
        let elements =
            Elements::new(declared, spec.dtype).ok_or_else(|| refuse(format!("{} holds no pixels", spec.dtype)))?;
        let resize = ResizeOptions::new().resize_alg(algorithm(declared));
        Ok(Self { declared: declared.clone(), dtype: spec.dtype, shape, resize, elements })
    }

    pub(super) fn prepare(&self, bytes: &[u8]) -> Result<(Tensor, Frame), InputError> {
        let (pixels, _held) = decode(bytes, &self.declared)?;
        let plan = Plan::new(&self.declared, pixels.width, pixels.height);
        let frame = plan.frame(&self.declared, pixels.width, pixels.height);
        let drawn = self.drawn(pixels, &plan)?;
        let canvas = self.on_canvas(drawn, &plan);
        let tensor = Tensor::new(self.dtype, self.shape.clone(), self.elements.of(&canvas))
            .map_err(|source| InputError::Damaged { input: self.declared.tensor.clone(), source })?;
        Ok((tensor, frame))
    }

    /// The plan's part of the picture in its size on the canvas.
    fn drawn(&self, pixels: Pixels, plan: &Plan) -> Result<Vec<u8>, InputError> {
        let Pixels { width, height, data } = pixels;
        let channels = self.declared.channels.count();
        if let Some([left, top, part_width, part_height]) = plan.copied() {
            if (part_width, part_height) == (width, height) {
                return Ok(data);
            }
            let [width, left, top, part_width, part_height] =
                [width, left, top, part_width, part_height].map(|side| usize::try_from(side).unwrap_or(usize::MAX));
            let rows = data.chunks_exact((width * channels).max(1)).skip(top).take(part_height);
            let part = rows.flat_map(|row| row.iter().skip(left * channels).take(part_width * channels));
            return Ok(part.copied().collect());
        }
        // By type, so that the resizer is compiled for these two of its thirteen.
        match self.declared.channels {
            Channels::Gray => self.resized::<U8>((width, height), &data, plan),
            Channels::Rgb | Channels::Bgr => self.resized::<U8x3>((width, height), &data, plan),
        }
    }

    fn resized<P: PixelTrait<Component = u8>>(
        &self,
        (width, height): (u32, u32),
        data: &[u8],
        plan: &Plan,
    ) -> Result<Vec<u8>, InputError> {
        let source = TypedImageRef::<P>::from_buffer(width, height, data);
        let source = source.map_err(|error| InputError::Image(error.into()))?;
        let [left, top, part_width, part_height] = plan.source;
        let (to_width, to_height) = plan.drawn;
        let (across, down) = (f64::from(width), f64::from(height));
        // Values are rounded and clamped to 8 bits between the passes, so that their order shows: as in Pillow, the one that
        // leaves less between them comes first. That is never more than the geometric mean of picture and target.
        let between = |width: u32, height: u32| u64::from(width) * u64::from(height);
        let by_x = between(to_width, height) <= between(width, to_height);
        let (middle, first, second) = if by_x {
            let second = [0.0, top, f64::from(to_width), part_height];
            ((to_width, height), [left, 0.0, part_width, down], second)
        } else {
            let second = [left, 0.0, part_width, f64::from(to_height)];
            ((width, to_height), [0.0, top, across, part_height], second)
        };
        let half = self.pass(&source, middle, first)?;
        self.pass(&half, plan.drawn, second).map(|image| P::components(image.pixels()).to_vec())
    }

    fn pass<P: PixelTrait>(
        &self,
        from: &impl ImageView<Pixel = P>,
        to: (u32, u32),
        [left, top, width, height]: [f64; 4],
    ) -> Result<TypedImage<'static, P>, InputError> {
        let mut target = TypedImage::new(to.0, to.1);
        let options = self.resize.crop(left, top, width, height);
        let resized = Resizer::new().resize_typed(from, &mut target, &options);
        resized.map_err(|error| InputError::Image(error.into())).map(|()| target)
    }

    /// With its fill around it, where it does not cover the canvas.
    fn on_canvas(&self, drawn: Vec<u8>, plan: &Plan) -> Vec<u8> {
        let ImageInput { width, height, channels, luma: weights, fill, .. } = self.declared;
        if plan.drawn == (width, height) {
            return drawn;
        }
        let side = |side: u32| usize::try_from(side).unwrap_or(usize::MAX);
        let count = channels.count();
        let fill = if channels == Channels::Gray { vec![luma(weights, fill)] } else { fill.to_vec() };
        let mut canvas = fill.repeat(side(width).saturating_mul(side(height)));
        let row_bytes = side(plan.drawn.0) * count;
        let rows = canvas.chunks_exact_mut(side(width) * count).skip(side(plan.at.1));
        for (to, from) in rows.zip(drawn.chunks_exact(row_bytes.max(1))) {
            let to = to.iter_mut().skip(side(plan.at.0) * count);
            to.zip(from).for_each(|(to, from)| *to = *from);
        }
        canvas
    }
}

fn algorithm(declared: &ImageInput) -> ResizeAlg {
    let filter = match declared.resize {
        ResizeFilter::Nearest => return ResizeAlg::Nearest,
        ResizeFilter::Box => FilterType::Box,
        ResizeFilter::Bilinear => FilterType::Bilinear,
        ResizeFilter::CatmullRom => FilterType::CatmullRom,
        ResizeFilter::Lanczos3 => FilterType::Lanczos3,
    };
    if declared.antialias { ResizeAlg::Convolution(filter) } else { ResizeAlg::Interpolation(filter) }
}

fn declared_text(declared: &ImageInput) -> String {
    let ImageInput { width, height, channels, layout, .. } = declared;
    format!("{width}x{height} pixels, {} channels, laid out {layout:?},", channels.count()).to_lowercase()
}

#[cfg(test)]
mod tests;
