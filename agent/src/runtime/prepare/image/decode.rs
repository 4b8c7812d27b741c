//! From the bytes of a file to 8-bit pixels, red, green, blue or grey, turned as the file says.

use super::memory::{Held, MEMORY};
use crate::runtime::error::InputError;
use fieldpost_shared::bundle::manifest::{Channels, ImageInput, Luma};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Most pixels of a request's image, millions.
pub(super) const MAX_MPIXEL: u64 = 64;
/// Most bytes that a decoded image may take, MiB: 64 million pixels of 8-bit RGB.
pub(super) const MAX_DECODED_MIB: u64 = 192;

/// Row-major 8-bit pixels, channels innermost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) data: Vec<u8>,
}

/// Decodes, turns, lays transparency over its background, and converts to grey or red, green, blue. The memory that is
/// held is for the caller to keep as long as the pixels.
pub(super) fn decode(bytes: &[u8], declared: &ImageInput) -> Result<(Pixels, Held<'static>), InputError> {
    let (image, held) = read(bytes, declared.exif_orientation)?;
    let image = match declared.background {
        Some(background) if image.color().has_alpha() => DynamicImage::ImageRgb8(over(&image, background)),
        _ => image,
    };
    let (width, height) = (image.width(), image.height());
    let data = match (declared.channels, declared.luma) {
        (Channels::Rgb | Channels::Bgr, _) => image.into_rgb8().into_raw(),
        (Channels::Gray, Luma::Bt601) if image.color().has_color() => {
            image.into_rgb8().into_raw().as_chunks().0.iter().map(|rgb| luma(Luma::Bt601, *rgb)).collect()
        }
        (Channels::Gray, _) => image.into_luma8().into_raw(),
    };
    Ok((Pixels { width, height, data }, held))
}

/// A grey value, with Pillow's 16-bit weights for BT.601 and the `image` crate's for BT.709.
pub(super) fn luma(weights: Luma, [red, green, blue]: [u8; 3]) -> u8 {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    let value = match weights {
        Luma::Bt601 => (red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16,
        Luma::Bt709 => (red * 2_126 + green * 7_152 + blue * 722) / 10_000,
    };
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// Alpha laid over one colour, rounded.
fn over(image: &DynamicImage, background: [u8; 3]) -> image::RgbImage {
    let image = image.to_rgba8();
    let mut out = image::RgbImage::new(image.width(), image.height());
    for (to, from) in out.pixels_mut().zip(image.pixels()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        let mix = |colour: u32, behind: u8| {
            let value = (colour * alpha + u32::from(behind) * (255 - alpha) + 127) / 255;
            u8::try_from(value).unwrap_or(u8::MAX)
        };
        let [behind_red, behind_green, behind_blue] = background;
        to.0 = [mix(red, behind_red), mix(green, behind_green), mix(blue, behind_blue)];
    }
    out
}

/// Size is judged from the header, before memory for pixels is taken.
fn read(bytes: &[u8], turned: bool) -> Result<(DynamicImage, Held<'static>), InputError> {
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Bmp)) => format,
        _ => return Err(InputError::ImageFormat),
    };
    let failed = |error: image::ImageError| InputError::Image(error.into());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    // Half as much again for what a decoder needs beside the pixels.
    limits.max_alloc = Some((MAX_DECODED_MIB << 20) * 3 / 2);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_MPIXEL * 1_000_000 || decoder.total_bytes() > MAX_DECODED_MIB << 20 {
        let (max_mpixel, max_mib) = (MAX_MPIXEL, MAX_DECODED_MIB);
        return Err(InputError::ImageSize { width, height, max_mpixel, max_mib });
    }
    let held = MEMORY.hold(decoder.total_bytes());
    // An orientation that cannot be read is none: viewers show such a file as it is, too.
    let orientation =
        if turned { decoder.orientation().unwrap_or(Orientation::NoTransforms) } else { Orientation::NoTransforms };
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok((image, held))
}
