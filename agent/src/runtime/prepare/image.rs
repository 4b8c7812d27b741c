//! A PNG or JPEG becomes one tensor: decode, convert to channels, resize, scale, normalise, lay out.
//!
//! In that order, on 8-bit channels until the last step (16-bit images are reduced first), as Pillow does it. Alpha is
//! dropped, not blended; an orientation in EXIF is not applied. Resizing stretches: it keeps no aspect ratio.
//! Buffers: decoded pixels (converted only where the file has other channels), resized pixels (only where the size
//! differs), the tensor.

use crate::runtime::contract::spec_text;
use crate::runtime::error::{InputError, LoadError};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use fieldpost_shared::bundle::manifest::{Channels, ImageInput, Layout, ResizeFilter};
use fieldpost_shared::bundle::{Dim, Dtype, Tensor, TensorSpec};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Most pixels of a request's image, millions.
pub(super) const MAX_MPIXEL: u64 = 64;
/// Most bytes that a decoded image may take, MiB: 64 million pixels of 8-bit RGB.
pub(super) const MAX_DECODED_MIB: u64 = 192;

/// [`ImageInput`], checked, with its arithmetic made into tables.
#[derive(Debug)]
pub(in crate::runtime) struct ImageToTensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    width: u32,
    height: u32,
    channels: Channels,
    layout: Layout,
    resize: ResizeOptions,
    /// Per channel of the tensor and pixel value, the element's bytes; elements are at most 8 bytes long.
    tables: Vec<Table>,
}

/// The element for each of the 256 values of a pixel.
type Table = Box<[[u8; 8]; 256]>;

impl ImageToTensor {
    pub(super) fn new(declared: &ImageInput, spec: &TensorSpec) -> Result<Self, LoadError> {
        let refuse =
            |detail: String| LoadError::Declaration { what: "pre-processing", tensor: spec.name.clone(), detail };
        let shape = shape(declared, spec).ok_or_else(|| {
            refuse(format!("one image of {} does not fill {}", declared_text(declared), spec_text(spec)))
        })?;
        let tables = (0..declared.channels.count()).map(|channel| table(declared, channel, spec.dtype));
        let tables: Option<Vec<Table>> = tables.collect();
        let tables = tables.ok_or_else(|| refuse(format!("{} holds no pixels", spec.dtype)))?;
        let algorithm = match declared.resize {
            ResizeFilter::Nearest => ResizeAlg::Nearest,
            ResizeFilter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
            ResizeFilter::CatmullRom => ResizeAlg::Convolution(FilterType::CatmullRom),
            ResizeFilter::Lanczos3 => ResizeAlg::Convolution(FilterType::Lanczos3),
        };
        Ok(Self {
            name: spec.name.clone(),
            dtype: spec.dtype,
            shape,
            width: declared.width,
            height: declared.height,
            channels: declared.channels,
            layout: declared.layout,
            resize: ResizeOptions::new().resize_alg(algorithm),
            tables,
        })
    }

    pub(super) fn prepare(&self, bytes: &[u8]) -> Result<Tensor, InputError> {
        let image = decode(bytes)?;
        let (width, height) = (image.width(), image.height());
        let pixels = match self.channels {
            Channels::Gray => image.into_luma8().into_raw(),
            Channels::Rgb | Channels::Bgr => image.into_rgb8().into_raw(),
        };
        let pixels =
            if (width, height) == (self.width, self.height) { pixels } else { self.resized(&pixels, width, height)? };
        self.laid_out(&pixels)
    }

    fn resized(&self, pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, InputError> {
        let pixel = if self.channels == Channels::Gray { PixelType::U8 } else { PixelType::U8x3 };
        let source = ImageRef::new(width, height, pixels, pixel).map_err(|error| InputError::Image(error.into()))?;
        let mut target = Image::new(self.width, self.height, pixel);
        Resizer::new().resize(&source, &mut target, &self.resize).map_err(|error| InputError::Image(error.into()))?;
        Ok(target.into_vec())
    }

    /// `pixels` are row-major, channels innermost in the order red, green, blue.
    fn laid_out(&self, pixels: &[u8]) -> Result<Tensor, InputError> {
        let data = match self.dtype.size_bytes() {
            1 => self.elements::<1>(pixels),
            2 => self.elements::<2>(pixels),
            4 => self.elements::<4>(pixels),
            _ => self.elements::<8>(pixels),
        };
        Tensor::new(self.dtype, self.shape.clone(), data)
            .map_err(|source| InputError::Damaged { input: self.name.clone(), source })
    }

    fn elements<const N: usize>(&self, pixels: &[u8]) -> Vec<u8> {
        let channels = self.tables.len();
        let mut data = vec![0; pixels.len() * N];
        let (elements, _) = data.as_chunks_mut::<N>();
        // Where in a pixel the tensor's channel lies.
        let place = |channel: usize| if self.channels == Channels::Bgr { channels - 1 - channel } else { channel };
        let element = |table: &Table, value: u8| -> [u8; N] {
            table.get(usize::from(value)).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
        };
        match self.layout {
            Layout::Nchw => {
                let planes = elements.chunks_exact_mut((pixels.len() / channels).max(1));
                for ((channel, table), plane) in self.tables.iter().enumerate().zip(planes) {
                    let values = pixels.iter().skip(place(channel)).step_by(channels);
                    plane.iter_mut().zip(values).for_each(|(to, value)| *to = element(table, *value));
                }
            }
            Layout::Nhwc | Layout::Flat => {
                for (pixel, to) in pixels.chunks_exact(channels).zip(elements.chunks_exact_mut(channels)) {
                    for ((channel, table), to) in self.tables.iter().enumerate().zip(to) {
                        *to = element(table, pixel.get(place(channel)).copied().unwrap_or(0));
                    }
                }
            }
        }
        data
    }
}

fn declared_text(declared: &ImageInput) -> String {
    let ImageInput { width, height, channels, layout, .. } = declared;
    format!("{width}x{height} pixels, {} channels, laid out {layout:?},", channels.count()).to_lowercase()
}

/// The tensor's shape for one image, with or without a batch axis.
fn shape(declared: &ImageInput, spec: &TensorSpec) -> Option<Vec<usize>> {
    let (width, height) = (usize::try_from(declared.width).ok()?, usize::try_from(declared.height).ok()?);
    let channels = declared.channels.count();
    let batched = match declared.layout {
        Layout::Nchw => vec![1, channels, height, width],
        Layout::Nhwc => vec![1, height, width, channels],
        Layout::Flat => vec![1, width.checked_mul(height)?.checked_mul(channels)?],
    };
    let alone = batched.get(1..)?.to_vec();
    let without_channel = (channels == 1 && declared.layout != Layout::Flat).then(|| vec![1, height, width]);
    let forms = [Some(batched), Some(alone), without_channel];
    forms.into_iter().flatten().find(|shape| spec.admits(shape) && !ambiguous(spec))
}

/// An input without a single fixed axis says nothing about images; then the batched form is taken as declared.
fn ambiguous(spec: &TensorSpec) -> bool {
    spec.shape.is_empty() || spec.shape.len() == 1 && matches!(spec.shape.first(), Some(Dim::Symbol(_)))
}

/// (pixel * scale - mean) / std for each pixel value; rounded and clamped where the element is an integer.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer `as` clamps, which is meant"
)]
fn table(declared: &ImageInput, channel: usize, dtype: Dtype) -> Option<Table> {
    let mean = declared.mean.get(channel).copied().unwrap_or(0.0);
    let std = declared.std.get(channel).copied().unwrap_or(1.0);
    let mut table: Table = Box::new([[0; 8]; 256]);
    for (pixel, element) in (0_u8..=255).zip(table.iter_mut()) {
        let value = (f32::from(pixel) * declared.scale - mean) / std;
        let mut write = |bytes: &[u8]| element.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        match dtype {
            Dtype::Bool | Dtype::Bytes => return None,
            Dtype::Uint8 => write(&[value.round() as u8]),
            Dtype::Int8 => write(&(value.round() as i8).to_le_bytes()),
            Dtype::Int16 => write(&(value.round() as i16).to_le_bytes()),
            Dtype::Int32 => write(&(value.round() as i32).to_le_bytes()),
            Dtype::Int64 => write(&(value.round() as i64).to_le_bytes()),
            Dtype::Uint16 => write(&(value.round() as u16).to_le_bytes()),
            Dtype::Uint32 => write(&(value.round() as u32).to_le_bytes()),
            Dtype::Uint64 => write(&(value.round() as u64).to_le_bytes()),
            Dtype::Fp16 => write(&half::f16::from_f32(value).to_le_bytes()),
            Dtype::Fp32 => write(&value.to_le_bytes()),
            Dtype::Fp64 => write(&f64::from(value).to_le_bytes()),
        }
    }
    Some(table)
}

/// Size is judged from the header, before memory for pixels is taken.
fn decode(bytes: &[u8]) -> Result<DynamicImage, InputError> {
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err(InputError::ImageFormat),
    };
    let failed = |error: image::ImageError| InputError::Image(error.into());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    // Half as much again for what a decoder needs beside the pixels.
    limits.max_alloc = Some((MAX_DECODED_MIB << 20) * 3 / 2);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_MPIXEL * 1_000_000 || decoder.total_bytes() > MAX_DECODED_MIB << 20 {
        let (max_mpixel, max_mib) = (MAX_MPIXEL, MAX_DECODED_MIB);
        return Err(InputError::ImageSize { width, height, max_mpixel, max_mib });
    }
    DynamicImage::from_decoder(decoder).map_err(failed)
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
