//! Which part of a picture is drawn where on the model's input, and the way back. Pure.

use fieldpost_shared::bundle::manifest::{Align, Fit, ImageInput};

/// A rectangle of the picture, and where it lies on the canvas that the model sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    /// Left, top, width, height in the picture.
    pub(super) source: [f64; 4],
    /// Its size on the canvas.
    pub(super) drawn: (u32, u32),
    /// Its upper left corner on the canvas.
    pub(super) at: (u32, u32),
}

/// How the model's pixels lie in the picture that was sent (turned, where EXIF says so).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Width and height of the model's input.
    pub input: (u32, u32),
    /// Width and height of the picture.
    pub picture: (u32, u32),
    /// Pixels of the picture per pixel of the model's input, along x and y.
    pub step: (f64, f64),
    /// Where the input's origin lies in the picture.
    pub origin: (f64, f64),
}

impl Frame {
    /// A point of the model's input in the picture, held within it.
    #[must_use]
    pub fn back(&self, x: f64, y: f64) -> (f64, f64) {
        let axis = |value: f64, origin: f64, step: f64, size: u32| (origin + value * step).clamp(0.0, f64::from(size));
        (axis(x, self.origin.0, self.step.0, self.picture.0), axis(y, self.origin.1, self.step.1, self.picture.1))
    }
}

impl Plan {
    /// For a picture of `width` x `height`, both at least 1.
    pub(super) fn new(declared: &ImageInput, width: u32, height: u32) -> Self {
        let (to_width, to_height) = (declared.width, declared.height);
        match declared.fit {
            Fit::Stretch => Self { source: whole(width, height), drawn: (to_width, to_height), at: (0, 0) },
            Fit::Letterbox => {
                let factor = ratio(to_width, width).min(ratio(to_height, height));
                let side =
                    |side: u32, most: u32| whole_number((f64::from(side) * factor).round_ties_even()).clamp(1, most);
                let drawn = (side(width, to_width), side(height, to_height));
                let at = match declared.align {
                    Align::TopLeft => (0, 0),
                    Align::Centre => ((to_width - drawn.0) / 2, (to_height - drawn.1) / 2),
                };
                Self { source: whole(width, height), drawn, at }
            }
            Fit::Crop => {
                let (resized_width, resized_height) = covering(declared, width, height);
                let (left, step_x) = (cut(resized_width, to_width), f64::from(width) / resized_width);
                let (top, step_y) = (cut(resized_height, to_height), f64::from(height) / resized_height);
                let source = [left * step_x, top * step_y, f64::from(to_width) * step_x, f64::from(to_height) * step_y];
                Self { source: within(source, width, height), drawn: (to_width, to_height), at: (0, 0) }
            }
            Fit::CentreCrop => {
                let axis = |side: u32, to: u32| {
                    let taken = side.min(to);
                    let left = if side > to { cut(f64::from(side), to) } else { 0.0 };
                    (left, taken, (to - taken) / 2)
                };
                let (left, drawn_width, at_x) = axis(width, to_width);
                let (top, drawn_height, at_y) = axis(height, to_height);
                let source = [left, top, f64::from(drawn_width), f64::from(drawn_height)];
                Self { source, drawn: (drawn_width, drawn_height), at: (at_x, at_y) }
            }
        }
    }

    /// The way back.
    pub(super) fn frame(&self, declared: &ImageInput, width: u32, height: u32) -> Frame {
        let [left, top, source_width, source_height] = self.source;
        let step = (source_width / f64::from(self.drawn.0), source_height / f64::from(self.drawn.1));
        let origin = (left - f64::from(self.at.0) * step.0, top - f64::from(self.at.1) * step.1);
        Frame { input: (declared.width, declared.height), picture: (width, height), step, origin }
    }

    /// The source's left, top, width and height, where it is drawn pixel by pixel.
    pub(super) fn copied(&self) -> Option<[u32; 4]> {
        let [left, top, width, height] = self.source;
        let same = width == f64::from(self.drawn.0) && height == f64::from(self.drawn.1);
        (same && left.fract() == 0.0 && top.fract() == 0.0)
            .then(|| [whole_number(left), whole_number(top), self.drawn.0, self.drawn.1])
    }
}

fn whole(width: u32, height: u32) -> [f64; 4] {
    [0.0, 0.0, f64::from(width), f64::from(height)]
}

fn ratio(to: u32, from: u32) -> f64 {
    f64::from(to) / f64::from(from)
}

/// The size that the whole picture would have: the shorter side as declared, the longer rounded down (torchvision).
fn covering(declared: &ImageInput, width: u32, height: u32) -> (f64, f64) {
    let (across, down) = (f64::from(width), f64::from(height));
    let by_width = |to: f64| (to, (to * down / across).floor());
    let by_height = |to: f64| ((to * across / down).floor(), to);
    let (resized_width, resized_height) = match declared.short_side {
        Some(short) if width <= height => by_width(f64::from(short)),
        Some(short) => by_height(f64::from(short)),
        None if ratio(declared.width, width) >= ratio(declared.height, height) => by_width(f64::from(declared.width)),
        None => by_height(f64::from(declared.height)),
    };
    // A target that is not square may need more than its shorter side; and rounding down must not uncover the last pixel.
    let lacking = (f64::from(declared.width) / resized_width).max(f64::from(declared.height) / resized_height);
    if lacking > 1.0 {
        ((resized_width * lacking).round(), (resized_height * lacking).round())
    } else {
        (resized_width, resized_height)
    }
}

/// Where the middle begins, half to even.
fn cut(side: f64, to: u32) -> f64 {
    ((side - f64::from(to)) / 2.0).round_ties_even().max(0.0)
}

/// Held within the picture: the last bit of a product may lie outside.
fn within([left, top, box_width, box_height]: [f64; 4], width: u32, height: u32) -> [f64; 4] {
    [left, top, box_width.min(f64::from(width) - left), box_height.min(f64::from(height) - top)]
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer `as` clamps; sides are below 2^32"
)]
fn whole_number(value: f64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(fit: Fit, to: (u32, u32), from: (u32, u32)) -> Plan {
        let declared = ImageInput { width: to.0, height: to.1, fit, ..ImageInput::default() };
        Plan::new(&declared, from.0, from.1)
    }

    #[test]
    fn a_letterbox_keeps_the_ratio_and_puts_the_odd_pixel_behind() {
        let wide = plan(Fit::Letterbox, (640, 640), (1280, 719));
        assert_eq!((wide.drawn, wide.at), ((640, 360), (0, 140)));
        assert_eq!(plan(Fit::Letterbox, (10, 10), (3, 10)).at, (3, 0));
        assert_eq!(plan(Fit::Letterbox, (10, 10), (10_000, 1)).drawn, (10, 1));
    }

    #[test]
    fn a_crop_takes_the_middle_of_what_covers_the_target() {
        let declared =
            ImageInput { width: 224, height: 224, fit: Fit::Crop, short_side: Some(256), ..ImageInput::default() };
        let plan = Plan::new(&declared, 500, 375);
        // torchvision: Resize(256) gives 341 x 256, CenterCrop(224) begins at 58, 16.
        let step = 500.0 / 341.0;
        assert!(
            (plan.source[0] - 58.0 * step).abs() < 1e-9 && (plan.source[2] - 224.0 * step).abs() < 1e-9,
            "{plan:?}"
        );
    }

    #[test]
    fn a_cut_without_resizing_copies_pixels() {
        let inside = plan(Fit::CentreCrop, (4, 4), (9, 2));
        assert_eq!((inside.copied(), inside.at), (Some([2, 0, 4, 2]), (0, 1)));
        assert_eq!(plan(Fit::Stretch, (4, 4), (4, 4)).copied(), Some([0, 0, 4, 4]));
        assert_eq!(plan(Fit::Stretch, (4, 4), (4, 5)).copied(), None);
    }

    #[test]
    fn no_picture_leads_outside_of_itself() {
        for fit in [Fit::Stretch, Fit::Crop, Fit::CentreCrop, Fit::Letterbox] {
            for from in [(1, 1), (1, 60_000_000), (60_000_000, 1), (7, 5), (5, 7), (224, 224), (8191, 3)] {
                for to in [(1, 1), (224, 224), (320, 17), (8192, 1)] {
                    let plan = plan(fit, to, from);
                    let [left, top, width, height] = plan.source;
                    let inside = left >= 0.0
                        && top >= 0.0
                        && width > 0.0
                        && height > 0.0
                        && left + width <= f64::from(from.0) + 1e-6
                        && top + height <= f64::from(from.1) + 1e-6;
                    let drawn = plan.at.0 + plan.drawn.0 <= to.0 && plan.at.1 + plan.drawn.1 <= to.1;
                    assert!(inside && drawn, "{fit:?} {from:?} {to:?} {plan:?}");
                }
            }
        }
    }

    #[test]
    fn a_point_finds_its_way_back() {
        for fit in [Fit::Stretch, Fit::Crop, Fit::CentreCrop, Fit::Letterbox] {
            let declared = ImageInput { width: 640, height: 480, fit, ..ImageInput::default() };
            let plan = Plan::new(&declared, 1000, 700);
            let frame = plan.frame(&declared, 1000, 700);
            let [left, top, width, height] = plan.source;
            let (x, y) = frame.back(f64::from(plan.at.0), f64::from(plan.at.1));
            assert!((x - left).abs() < 1e-9 && (y - top).abs() < 1e-9, "{fit:?} {x} {y}");
            let corner = (f64::from(plan.at.0 + plan.drawn.0), f64::from(plan.at.1 + plan.drawn.1));
            let (x, y) = frame.back(corner.0, corner.1);
            assert!((x - left - width).abs() < 1e-6 && (y - top - height).abs() < 1e-6, "{fit:?} {x} {y}");
        }
    }
}
