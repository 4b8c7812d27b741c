//! From pixels to a tensor's elements: arithmetic by table, and the order of the axes.

use fieldpost_shared::bundle::manifest::{Channels, ImageInput, Layout};
use fieldpost_shared::bundle::{Dim, Dtype, TensorSpec};

/// The element for each of the 256 values of a pixel.
type Table = Box<[[u8; 8]; 256]>;

/// Tables and order.
#[derive(Debug)]
pub(super) struct Elements {
    dtype: Dtype,
    channels: Channels,
    layout: Layout,
    /// Per channel of the tensor and pixel value, the element's bytes; elements are at most 8 bytes long.
    tables: Vec<Table>,
}

impl Elements {
    /// None for a type that holds no pixels.
    pub(super) fn new(declared: &ImageInput, dtype: Dtype) -> Option<Self> {
        let tables = (0..declared.channels.count()).map(|channel| table(declared, channel, dtype));
        Some(Self {
            dtype,
            channels: declared.channels,
            layout: declared.layout,
            tables: tables.collect::<Option<_>>()?,
        })
    }

    /// `pixels` are row-major, channels innermost in the order red, green, blue.
    pub(super) fn of(&self, pixels: &[u8]) -> Vec<u8> {
        match self.dtype.size_bytes() {
            1 => self.bytes::<1>(pixels),
            2 => self.bytes::<2>(pixels),
            4 => self.bytes::<4>(pixels),
            _ => self.bytes::<8>(pixels),
        }
    }

    fn bytes<const N: usize>(&self, pixels: &[u8]) -> Vec<u8> {
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

/// The tensor's shape for one image, with or without a batch axis.
pub(super) fn shape(declared: &ImageInput, spec: &TensorSpec) -> Option<Vec<usize>> {
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
            Dtype::Uint16 => write(&(value.round() as u16).to_le_bytes()),
            Dtype::Uint32 => write(&(value.round() as u32).to_le_bytes()),
            Dtype::Uint64 => write(&(value.round() as u64).to_le_bytes()),
            Dtype::Fp16 => write(&half::f16::from_f32(value).to_le_bytes()),
            Dtype::Uint8 => write(&[value.round() as u8]),
            Dtype::Int8 => write(&(value.round() as i8).to_le_bytes()),
            Dtype::Int16 => write(&(value.round() as i16).to_le_bytes()),
            Dtype::Int32 => write(&(value.round() as i32).to_le_bytes()),
            Dtype::Int64 => write(&(value.round() as i64).to_le_bytes()),
            Dtype::Fp32 => write(&value.to_le_bytes()),
            Dtype::Fp64 => write(&f64::from(value).to_le_bytes()),
        }
    }
    Some(table)
}
