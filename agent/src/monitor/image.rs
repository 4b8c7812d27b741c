//! What is measured of an image: light, contrast, sharpness, colour. On pixels 0..=255, recovered from the model's tensor.

use fieldpost_shared::bundle::manifest::{Channels, ImageInput, Layout};

/// Darker than this is black, in steps of 255.
const BLACK: f64 = 0.5;
/// Lighter than this is saturated.
const SATURATED: f64 = 254.5;

/// How to read pixels back from a prepared tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageMeasures {
    width: usize,
    height: usize,
    channels: Channels,
    layout: Layout,
    /// Per channel: pixel = value * factor + offset.
    inverse: Vec<(f64, f64)>,
}

impl ImageMeasures {
    pub(crate) fn new(image: &ImageInput) -> Self {
        let at = |values: &[f32], channel: usize, default: f64| values.get(channel).map_or(default, |v| f64::from(*v));
        // A scale of 0 is refused with the manifest; were it not, the measures would be infinite and counted as such.
        let scale = f64::from(image.scale);
        let inverse = |c: usize| (at(&image.std, c, 1.0) / scale, at(&image.mean, c, 0.0) / scale);
        Self {
            width: usize::try_from(image.width).unwrap_or(usize::MAX),
            height: usize::try_from(image.height).unwrap_or(usize::MAX),
            channels: image.channels,
            layout: image.layout,
            inverse: (0..image.channels.count()).map(inverse).collect(),
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = ["brightness", "std", "contrast", "laplacian", "saturated", "black"]
            .map(|measure| format!("image.{measure}"))
            .into();
        let letters: &[&str] = match self.channels {
            Channels::Gray => &[],
            Channels::Rgb => &["r", "g", "b"],
            Channels::Bgr => &["b", "g", "r"],
        };
        names.extend(letters.iter().flat_map(|c| [format!("image.mean.{c}"), format!("image.std.{c}")]));
        names
    }

    /// Values in the order of [`Self::names`].
    pub(crate) fn of_row(&self, row: &[f64]) -> Vec<f64> {
        let planes = self.planes(row);
        let luma = match planes.as_slice() {
            [only] => only.clone(),
            planes => mean_of(planes),
        };
        let (mean, std) = moments(&luma);
        let (low, high) = percentiles(&luma);
        let share = |hit: &dyn Fn(f64) -> bool| ratio(luma.iter().filter(|p| hit(**p)).count(), luma.len());
        let black = share(&|pixel| pixel <= BLACK);
        let saturated = share(&|pixel| pixel >= SATURATED);
        let mut values = vec![mean, std, high - low, self.laplacian(&luma), saturated, black];
        if planes.len() > 1 {
            values.extend(planes.iter().flat_map(|plane| <[f64; 2]>::from(moments(plane))));
        }
        values
    }

    /// One plane of pixels per channel.
    fn planes(&self, row: &[f64]) -> Vec<Vec<f64>> {
        let count = self.channels.count();
        let size = row.len() / count;
        let plane = |(channel, (factor, offset)): (usize, &(f64, f64))| {
            let restore = |value: &f64| value * factor + offset;
            match self.layout {
                Layout::Nchw => row.iter().skip(channel * size).take(size).map(restore).collect(),
                Layout::Nhwc | Layout::Flat => row.iter().skip(channel).step_by(count).map(restore).collect(),
            }
        };
        self.inverse.iter().enumerate().map(plane).collect()
    }

    /// Variance of the four-neighbour Laplacian over the inner pixels: low when the image is blurred. 0 below 3x3.
    fn laplacian(&self, luma: &[f64]) -> f64 {
        if self.width < 3 || self.height < 3 || self.width.checked_mul(self.height) != Some(luma.len()) {
            return 0.0;
        }
        let rows: Vec<&[f64]> = luma.chunks_exact(self.width).collect();
        let mut values = Vec::with_capacity(luma.len());
        for window in rows.windows(3) {
            let [above, here, below] = window else { continue };
            for ((up, three), down) in above.iter().skip(1).zip(here.windows(3)).zip(below.iter().skip(1)) {
                if let [left, centre, right] = three {
                    values.push(up + down + left + right - 4.0 * centre);
                }
            }
        }
        moments(&values).1.powi(2)
    }
}

fn mean_of(planes: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = vec![0.0; planes.first().map_or(0, Vec::len)];
    for plane in planes {
        sum.iter_mut().zip(plane).for_each(|(total, pixel)| *total += pixel);
    }
    sum.iter_mut().for_each(|total| *total *= ratio(1, planes.len()));
    sum
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let share = ratio(1, values.len());
    let mean = values.iter().sum::<f64>() * share;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() * share).sqrt())
}

/// 5 % and 95 %, to a step of 1/255, by counting.
fn percentiles(luma: &[f64]) -> (f64, f64) {
    let mut counts = [0_usize; 256];
    for pixel in luma {
        // A cast of a float saturates, and NaN becomes 0.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates by definition")]
        let level = usize::from(pixel.round() as u8);
        if let Some(count) = counts.get_mut(level) {
            *count += 1;
        }
    }
    let rank = |share: f64| {
        let mut seen = 0;
        let reached = |count: &usize| {
            seen += count;
            ratio(seen, luma.len()) >= share
        };
        ratio(counts.iter().position(reached).unwrap_or(255), 1)
    };
    (rank(0.05), rank(0.95))
}
