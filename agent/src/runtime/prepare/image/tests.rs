use super::*;
use fieldpost_shared::bundle::Dim;
use fieldpost_shared::bundle::manifest::Layout;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage, RgbaImage};
use std::io::Cursor;

fn declared(channels: Channels, layout: Layout) -> ImageInput {
    ImageInput {
        tensor: "image".to_owned(),
        width: 2,
        height: 2,
        channels,
        layout,
        resize: ResizeFilter::Bilinear,
        scale: 1.0,
        mean: Vec::new(),
        std: Vec::new(),
        ..ImageInput::default()
    }
}

fn spec(dtype: Dtype, shape: &[u64]) -> TensorSpec {
    TensorSpec { name: "image".to_owned(), dtype, shape: shape.iter().copied().map(Dim::Fixed).collect() }
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.into().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

/// Red, green, blue and a mixed pixel.
fn colours() -> Vec<u8> {
    png(RgbImage::from_raw(2, 2, vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30]).unwrap())
}

fn check(channels: Channels, layout: Layout, shape: &[u64], expected: &[f64]) {
    let made = ImageToTensor::new(&declared(channels, layout), &spec(Dtype::Fp32, shape)).unwrap();
    assert_eq!(made.prepare(&colours()).unwrap().0.to_f64(), expected);
}

#[test]
fn channels_first_is_a_plane_per_channel() {
    check(Channels::Rgb, Layout::Nchw, &[1, 3, 2, 2], &[255., 0., 0., 10., 0., 255., 0., 20., 0., 0., 255., 30.]);
}

#[test]
fn channels_last_is_the_order_of_the_file() {
    check(Channels::Rgb, Layout::Nhwc, &[1, 2, 2, 3], &[255., 0., 0., 0., 255., 0., 0., 0., 255., 10., 20., 30.]);
}

#[test]
fn bgr_is_rgb_turned_round() {
    check(Channels::Bgr, Layout::Flat, &[1, 12], &[0., 0., 255., 0., 255., 0., 255., 0., 0., 30., 20., 10.]);
    check(Channels::Bgr, Layout::Nchw, &[1, 3, 2, 2], &[0., 0., 255., 30., 0., 255., 0., 20., 255., 0., 0., 10.]);
}

#[test]
fn gray_weighs_colours_by_bt_709() {
    check(Channels::Gray, Layout::Nchw, &[1, 1, 2, 2], &[54., 182., 18., 19.]);
}

#[test]
fn a_batch_axis_may_be_missing() {
    check(Channels::Gray, Layout::Nhwc, &[2, 2, 1], &[54., 182., 18., 19.]);
    check(Channels::Gray, Layout::Nchw, &[1, 2, 2], &[54., 182., 18., 19.]);
}

#[test]
fn values_are_scaled_shifted_and_divided_by_channel() {
    let mut image = declared(Channels::Rgb, Layout::Nhwc);
    (image.scale, image.mean, image.std) = (0.1, vec![1.0, 0.0, 2.0], vec![2.0, 1.0, 0.5]);
    let made = ImageToTensor::new(&image, &spec(Dtype::Fp64, &[1, 2, 2, 3])).unwrap();
    let last = &made.prepare(&colours()).unwrap().0.to_f64()[9..];
    let expected = [0.0, 2.0, 2.0];
    assert!(last.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{last:?}");
}

#[test]
fn integers_are_rounded_and_clamped() {
    let mut image = declared(Channels::Gray, Layout::Flat);
    (image.scale, image.mean) = (1.0, vec![60.4]);
    let made = ImageToTensor::new(&image, &spec(Dtype::Int8, &[1, 4])).unwrap();
    assert_eq!(made.prepare(&colours()).unwrap().0.to_f64(), [-6.0, 122.0, -42.0, -41.0]);
    image.mean = vec![100.0];
    let made = ImageToTensor::new(&image, &spec(Dtype::Uint8, &[1, 4])).unwrap();
    assert_eq!(made.prepare(&colours()).unwrap().0.to_f64(), [0.0, 82.0, 0.0, 0.0]);
}

#[test]
fn alpha_is_dropped_and_sixteen_bits_become_eight() {
    let made = ImageToTensor::new(&declared(Channels::Rgb, Layout::Flat), &spec(Dtype::Fp32, &[1, 12])).unwrap();
    let alpha = png(RgbaImage::from_pixel(2, 2, image::Rgba([9, 8, 7, 0])));
    assert_eq!(made.prepare(&alpha).unwrap().0.to_f64()[..3], [9.0, 8.0, 7.0]);
    let deep = png(DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(2, 2, image::Luma([0x8080]))));
    assert_eq!(made.prepare(&deep).unwrap().0.to_f64(), [128.0; 12]);
}

#[test]
fn another_size_is_resized_with_the_named_filter() {
    let wide = png(GrayImage::from_raw(4, 2, vec![0, 100, 200, 200, 0, 100, 200, 200]).unwrap());
    let with = |resize| {
        let image = ImageInput { resize, ..declared(Channels::Gray, Layout::Flat) };
        let made = ImageToTensor::new(&image, &spec(Dtype::Fp32, &[1, 4])).unwrap();
        made.prepare(&wide).unwrap().0.to_f64()[..2].to_vec()
    };
    assert_eq!(with(ResizeFilter::Nearest), [100.0, 200.0]);
    // Antialiasing: the triangle filter is two source pixels wide on each side when halving. Pillow 13 says 71 and 186 too.
    assert_eq!(with(ResizeFilter::Bilinear), [71.0, 186.0]);
    assert_ne!(with(ResizeFilter::CatmullRom), with(ResizeFilter::Lanczos3));
}

#[test]
fn a_jpeg_is_decoded() {
    let mut bytes = Vec::new();
    let flat = DynamicImage::ImageRgb8(RgbImage::from_pixel(16, 16, image::Rgb([200, 100, 50])));
    flat.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Jpeg).unwrap();
    let made = ImageToTensor::new(&declared(Channels::Rgb, Layout::Flat), &spec(Dtype::Fp32, &[1, 12])).unwrap();
    let values = made.prepare(&bytes).unwrap().0.to_f64();
    let near = |found: f64, expected: f64| (found - expected).abs() <= 3.0;
    assert!(near(values[0], 200.0) && near(values[1], 100.0) && near(values[2], 50.0), "{values:?}");
}

fn refusal(bytes: &[u8]) -> InputError {
    let made = ImageToTensor::new(&declared(Channels::Rgb, Layout::Flat), &spec(Dtype::Fp32, &[1, 12])).unwrap();
    made.prepare(bytes).unwrap_err()
}

#[test]
fn what_is_no_png_or_jpeg_is_refused() {
    assert!(matches!(refusal(b""), InputError::ImageFormat));
    assert!(matches!(refusal(b"GIF89a\x02\x00\x02\x00\x00\x00\x00"), InputError::ImageFormat));
}

#[test]
fn every_truncation_is_refused_and_none_panics() {
    let whole = colours();
    for length in 8..whole.len() - 12 {
        assert!(matches!(refusal(&whole[..length]), InputError::Image(_)), "{length} bytes");
    }
}

/// A header that promises a picture that nobody sent.
fn header(width: u32, height: u32, bits: u8, colour: u8) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([bits, colour, 0, 0, 0]);
    let mut crc = !0_u32;
    for byte in &chunk {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 });
    }
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(chunk);
    png.extend((!crc).to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    png
}

#[test]
fn too_many_pixels_are_refused_before_memory_is_taken() {
    assert!(matches!(refusal(&header(8001, 8000, 8, 0)), InputError::ImageSize { width: 8001, height: 8000, .. }));
    assert!(matches!(refusal(&header(60_000, 60_000, 8, 2)), InputError::ImageSize { .. }));
    assert!(matches!(refusal(&header(0x7fff_ffff, 0x7fff_ffff, 16, 6)), InputError::Image(_)));
}

#[test]
fn too_many_bytes_in_few_pixels_are_refused() {
    assert!(matches!(refusal(&header(6000, 6000, 16, 6)), InputError::ImageSize { .. }));
}

#[test]
fn a_tensor_that_one_image_does_not_fill_is_refused() {
    let refused = |dtype, shape: &[u64]| {
        ImageToTensor::new(&declared(Channels::Rgb, Layout::Nchw), &spec(dtype, shape)).unwrap_err().to_string()
    };
    assert!(refused(Dtype::Fp32, &[1, 1, 2, 2]).contains("does not fill FP32 [1,1,2,2]"));
    assert!(refused(Dtype::Fp32, &[2, 3, 2, 2]).contains("does not fill"));
    assert!(refused(Dtype::Bool, &[1, 3, 2, 2]).contains("BOOL holds no pixels"));
}

#[test]
fn a_picture_of_one_line_takes_no_more_memory_than_its_pixels() {
    // What lies between the two passes of a resize would have 16 billion pixels one way round.
    let made = ImageToTensor::new(
        &ImageInput { width: 8000, height: 8, ..declared(Channels::Gray, Layout::Flat) },
        &spec(Dtype::Uint8, &[1, 64_000]),
    );
    let tall = png(GrayImage::from_pixel(1, 2_000_000, image::Luma([77])));
    assert!(made.unwrap().prepare(&tall).unwrap().0.data.iter().all(|pixel| *pixel == 77));
    let made = ImageToTensor::new(
        &ImageInput { width: 8, height: 8000, ..declared(Channels::Gray, Layout::Flat) },
        &spec(Dtype::Uint8, &[1, 64_000]),
    );
    let wide = png(GrayImage::from_pixel(2_000_000, 1, image::Luma([77])));
    assert!(made.unwrap().prepare(&wide).unwrap().0.data.iter().all(|pixel| *pixel == 77));
}
