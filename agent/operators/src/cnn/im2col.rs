//! The columns of a convolution (im2col: <https://hal.science/inria-00112631>), panel by panel as the matrix product asks for
//! them.
//!
//! A panel holds `R` neighbouring places of the output for each weight of a filter. Where the stride is 1, what one weight
//! sees of neighbouring places lies side by side in a row of the picture, too: a panel is made of few runs, each copied as
//! `R` values whatever its length, since what comes too much is written over by the next. Beside the picture there is
//! nothing but zeros, so that no padded copy of it is made.

use super::windows::Windows;
use std::alloc::Layout;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::MaybeUninit;
use tract_linalg::WeightType;
use tract_linalg::mmm::{EagerPackedInput, MMMInputFormat, MMMInputValue, PackedMatrixStorage};
use tract_linalg::pack::PackedFormat;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::Conv;
use tract_onnx::tract_core::ops::matmul::pack::DynPackedExoticFact;

/// Widths of panels that tract's kernels for float32 ask for; others stay with tract.
const WIDTHS: [usize; 9] = [1, 2, 3, 4, 5, 6, 8, 12, 16];
/// Panels of a group that are compared with tract's, about.
const COMPARED: usize = 64;
/// Values that float32 holds exactly, for the comparison with tract's columns.
const EXACT: usize = 1 << 24;

/// The convolutions of a graph before it is optimised: afterwards nothing says what they were.
pub(crate) struct Convolutions(HashMap<String, (Conv, TVec<usize>)>);

impl Convolutions {
    pub(crate) fn of(model: &TypedModel) -> TractResult<Self> {
        let mut found = HashMap::new();
        for node in model.nodes() {
            let Some(conv) = node.op_as::<Conv>() else { continue };
            let fact = model.node_input_facts(node.id)?.into_iter().next();
            let shape = fact.filter(|fact| fact.datum_type == f32::datum_type()).and_then(|f| f.shape.as_concrete());
            found.extend(shape.map(|shape| (format!("{}.lazyIm2col", node.name), (conv.clone(), shape.into()))));
        }
        Ok(Self(found))
    }

    /// Replaces tract's columns of these convolutions, wherever the same come out.
    pub(crate) fn replace(&self, model: &mut TypedModel) -> TractResult<()> {
        for id in 0..model.nodes().len() {
            let node = model.node(id);
            let Some((conv, shape)) = self.0.get(&node.name).filter(|_| node.op.name() == "LazyIm2col") else {
                continue;
            };
            let [read] = *node.inputs else { continue };
            // With padding, or without.
            let before = model.node(read.node);
            let padded = before.inputs.len() == 1 && before.op.name() == "Pad";
            let from = before.inputs.first().copied().filter(|_| padded).unwrap_or(read);
            if model.outlet_fact(from)?.shape.as_concrete() != Some(&**shape) {
                continue;
            }
            let Some(ours) = Im2Col::of(conv, shape, node) else { continue };
            let pad = padded.then_some(&*before.op);
            if !ours.agrees(pad, &*node.op, shape)? {
                tracing::debug!(node = %node.name, "tract's columns are others: it keeps them");
                continue;
            }
            let patch = TypedModelPatch::replace_single_op(model, node, &[from], ours)?;
            patch.apply(model)?;
        }
        model.compact()
    }
}

/// Where each value of a panel comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Columns {
    packer: PackedFormat,
    /// In one group.
    channels: usize,
    height: Windows,
    width: Windows,
}

/// Neighbouring places of the output that see a row of the picture, or zeros, side by side.
struct Run {
    /// Within the part of a panel that a channel has.
    at: usize,
    len: usize,
    /// Within the plane; none is beside it.
    from: Option<usize>,
}

/// Places of a panel that lie in one row of the output.
struct Span {
    at: usize,
    len: usize,
    y: usize,
    x: usize,
}

impl Columns {
    fn depth(&self) -> usize {
        self.channels * self.height.kernel * self.width.kernel
    }

    fn places(&self) -> usize {
        self.height.places * self.width.places
    }

    fn plane(&self) -> usize {
        self.height.size * self.width.size
    }

    fn spans<const R: usize>(&self, panel: usize) -> TVec<Span> {
        let first = panel * R;
        let count = R.min(self.places().saturating_sub(first));
        let (mut y, mut x) = (first / self.width.places.max(1), first % self.width.places.max(1));
        let mut spans = tvec!();
        let mut at = 0;
        while at < count {
            let len = (count - at).min(self.width.places - x);
            spans.push(Span { at, len, y, x });
            at += len;
            (y, x) = (y + 1, 0);
        }
        spans
    }

    /// The weights of a filter for one channel, in the order of a panel's rows.
    fn cells(&self) -> impl Iterator<Item = (usize, usize)> {
        let columns = self.width.kernel;
        (0..self.height.kernel).flat_map(move |row| (0..columns).map(move |column| (row, column)))
    }

    /// Place by place what each weight sees within a plane; beyond the plane is beside it.
    fn each<const R: usize>(&self, spans: &[Span]) -> Vec<usize> {
        let mut sources = vec![usize::MAX; self.height.kernel * self.width.kernel * R];
        for ((row, column), lanes) in self.cells().zip(sources.chunks_exact_mut(R)) {
            for span in spans {
                let Some(y) = self.height.seen(span.y, row) else { continue };
                for (x, source) in (span.x..).zip(lanes.iter_mut().skip(span.at).take(span.len)) {
                    *source = self.width.seen(x, column).map_or(usize::MAX, |x| y * self.width.size + x);
                }
            }
        }
        sources
    }

    fn runs<const R: usize>(&self, spans: &[Span]) -> Vec<Run> {
        let width = &self.width;
        let mut runs: Vec<Run> = Vec::with_capacity(self.height.kernel * width.kernel * (spans.len() + 2));
        for (cell, (row, column)) in self.cells().enumerate() {
            let mut add = |at: usize, len: usize, from: Option<usize>| {
                if len > 0 {
                    runs.push(Run { at: cell * R + at, len, from });
                }
            };
            for Span { at, len, y, x } in spans {
                let Some(seen) = self.height.seen(*y, row) else {
                    add(*at, *len, None);
                    continue;
                };
                // Of the places from `x` on the first few may lie before the row, the last few behind it.
                let shift = x + column * width.dilation;
                let left = width.before.saturating_sub(shift).min(*len);
                let from = (shift + left).saturating_sub(width.before);
                let inside = width.size.saturating_sub(from).min(len - left);
                add(*at, left, None);
                add(at + left, inside, Some(seen * width.size + from));
                add(at + left + inside, len - left - inside, None);
            }
            // The kernel computes with the places of the last panel that are none, too.
            let count = spans.last().map_or(0, |last| last.at + last.len);
            add(count, R - count, None);
        }
        runs
    }

    /// Writes a panel: for each channel and weight `R` values.
    fn fill<const R: usize>(&self, image: &[f32], panel: usize, out: &mut [MaybeUninit<f32>]) {
        let spans = self.spans::<R>(panel);
        let size = self.plane();
        let rows = self.height.kernel * self.width.kernel * R;
        if self.width.stride == 1 {
            let runs = self.runs::<R>(&spans);
            for channel in 0..self.channels {
                // As far as picture and panel go: a copy of `R` values may read and write on in the next channel.
                let plane = image.get(channel * size..).unwrap_or_default();
                let out = out.get_mut(channel * rows..).unwrap_or_default();
                runs.iter().for_each(|run| copy::<R>(plane, run, out.get_mut(run.at..).unwrap_or_default()));
            }
        } else {
            let sources = self.each::<R>(&spans);
            for (plane, out) in image.chunks_exact(size.max(1)).zip(out.chunks_exact_mut(rows)).take(self.channels) {
                for (to, from) in out.iter_mut().zip(&sources) {
                    to.write(plane.get(*from).copied().unwrap_or(0.0));
                }
            }
        }
    }

    fn panel(&self, image: &[f32], panel: usize, out: &mut [MaybeUninit<f32>]) {
        match self.packer.r {
            1 => self.fill::<1>(image, panel, out),
            2 => self.fill::<2>(image, panel, out),
            3 => self.fill::<3>(image, panel, out),
            4 => self.fill::<4>(image, panel, out),
            5 => self.fill::<5>(image, panel, out),
            6 => self.fill::<6>(image, panel, out),
            8 => self.fill::<8>(image, panel, out),
            12 => self.fill::<12>(image, panel, out),
            _ => self.fill::<16>(image, panel, out),
        }
    }
}

/// Writes a run, and behind it what the next one writes over. At the end of the picture or of the panel, just the run.
fn copy<const R: usize>(plane: &[f32], run: &Run, out: &mut [MaybeUninit<f32>]) {
    let whole = out.first_chunk_mut::<R>();
    match (run.from, whole) {
        (None, Some(whole)) => *whole = [MaybeUninit::new(0.0); R],
        (None, None) => out.iter_mut().take(run.len).for_each(|value| *value = MaybeUninit::new(0.0)),
        (Some(from), whole) => {
            let source = plane.get(from..).unwrap_or_default();
            match (source.first_chunk::<R>(), whole) {
                (Some(source), Some(whole)) => *whole = source.map(MaybeUninit::new),
                _ => out.iter_mut().zip(source).take(run.len).for_each(|(to, from)| *to = MaybeUninit::new(*from)),
            }
        }
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Columns")
    }
}

impl MMMInputFormat for Columns {
    fn prepare_tensor(&self, _: &Tensor, _: usize, _: usize) -> TractResult<Tensor> {
        bail!("columns are made of pictures alone")
    }

    fn prepare_one_view(&self, _: &TensorView<'_>, _: usize, _: usize) -> TractResult<Box<dyn MMMInputValue>> {
        bail!("columns are made of pictures alone")
    }

    fn precursor(&self) -> WeightType {
        self.packer.precursor()
    }

    fn r(&self) -> usize {
        self.packer.r
    }

    fn k_alignment(&self) -> usize {
        1
    }

    fn mem_size(&self, k: TDim, mn: TDim) -> TDim {
        k * mn * self.packer.dt.size_of()
    }

    fn extract_at_mn_f16(&self, _: &EagerPackedInput, _: usize, _: &mut [f16]) -> TractResult<()> {
        bail!("columns are made for products of matrices alone")
    }

    fn extract_at_mn_f32(&self, _: &EagerPackedInput, _: usize, _: &mut [f32]) -> TractResult<()> {
        bail!("columns are made for products of matrices alone")
    }
}

impl ExoticFact for Columns {
    fn buffer_sizes(&self) -> TVec<TDim> {
        tvec!(MMMInputFormat::mem_size(self, self.depth().to_dim(), self.places().to_dim()))
    }
}

/// The operator: a picture (`[1, ] channels, height, width` or without height) becomes the right side of the convolution's
/// product.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Im2Col {
    columns: Arc<Columns>,
    groups: usize,
}

impl Im2Col {
    /// None for what stays with tract: other layouts than channels first, three axes or more, several pictures at once.
    fn of(conv: &Conv, shape: &[usize], lazy: &TypedNode) -> Option<Self> {
        let fact = lazy.outputs.first()?.fact.exotic_fact()?.downcast_ref::<DynPackedExoticFact>()?;
        let packer = fact.packers.first()?.downcast_ref::<PackedFormat>()?;
        let spec = &conv.pool_spec;
        let shape = spec.data_format.shape(TVec::from(shape)).ok()?;
        let axes = shape.hw_dims();
        let plain = packer.dt == f32::datum_type() && WIDTHS.contains(&packer.r) && conv.q_params.is_none();
        if !plain || shape.fmt.c_is_last() || shape.n().is_some_and(|n| *n != 1) || !matches!(axes.len(), 1 | 2) {
            return None;
        }
        let mut windows = Windows::of(spec, axes).into_iter();
        let height = if axes.len() == 1 { Windows::ONE } else { windows.next()? };
        let channels = spec.input_channels.checked_div(conv.group)?;
        let columns = Columns { packer: packer.clone(), channels, height, width: windows.next()? };
        let same = fact.k == columns.depth().to_dim() && fact.mn == columns.places().to_dim();
        same.then(|| Self { columns: Arc::new(columns), groups: conv.group })
    }

    /// Whether tract's operators give the same for a picture of numbers that are all different.
    fn agrees(&self, pad: Option<&dyn TypedOp>, lazy: &dyn TypedOp, shape: &[usize]) -> TractResult<bool> {
        let count = shape.iter().product();
        let numbers: Vec<f32> = (0..count).map(|number| (number % EXACT) as f32 + 1.0).collect();
        let picture = Tensor::from_shape(shape, &numbers)?.into_tvalue();
        let padded = match pad {
            Some(pad) => pad.eval_out_of_plan(tvec!(picture.clone()))?,
            None => Some(tvec!(picture.clone())),
        };
        let Some(padded) = padded else { return Ok(false) };
        let Some(theirs) = lazy.eval_out_of_plan(padded)? else { return Ok(false) };
        let ours = self.eval(&EvalContext::out_of_plan(), tvec!(picture))?;
        let [Some(theirs), Some(ours)] = [&theirs, &ours].map(|made| made.first()) else { return Ok(false) };
        let [theirs, ours] = [theirs, ours].map(|made| made.try_storage_as::<PackedMatrixStorage>());
        self.same_panels(theirs?, ours?)
    }

    /// Of many panels some of each group: the first, the last, and those at even distances between.
    fn same_panels(&self, theirs: &PackedMatrixStorage, ours: &PackedMatrixStorage) -> TractResult<bool> {
        let (depth, width) = (self.columns.depth(), self.columns.packer.r);
        let values = |value: &dyn MMMInputValue, panel: usize| -> TractResult<Vec<f32>> {
            let mut buffer = vec![0.0_f32; self.columns.packer.single_panel_len(depth)];
            value.panel_bytes(panel, Some(buffer.as_mut_ptr().cast()))?;
            // What lies behind the last place is nobody's.
            let places = width.min(self.columns.places() - panel * width);
            Ok(buffer.chunks(width).take(depth).flat_map(|row| row.iter().copied().take(places)).collect())
        };
        for (theirs, ours) in theirs.values().iter().zip(ours.values()) {
            let count = ours.panels_count();
            let some = (0..count).step_by((count / COMPARED).max(1)).chain(count.checked_sub(1));
            for panel in some {
                if values(&**theirs, panel)? != values(&**ours, panel)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

impl Op for Im2Col {
    fn name(&self) -> StaticName {
        "Im2ColByRuns".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Im2Col {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let image = args_1!(inputs);
        let dtype = image.datum_type();
        let panels = (0..self.groups).map(|group| {
            let panels = Panels { image: image.clone(), columns: Arc::clone(&self.columns), group };
            Box::new(panels) as Box<dyn MMMInputValue>
        });
        Ok(tvec!(
            PackedMatrixStorage::new_batched(&[1, self.groups], panels.collect()).into_tensor(dtype).into_tvalue()
        ))
    }
}

impl TypedOp for Im2Col {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = inputs.first().context("an input is needed")?;
        let fact = DynPackedExoticFact {
            k: self.columns.depth().to_dim(),
            mn: self.columns.places().to_dim(),
            packers: vec![Box::new(self.columns.packer.clone())],
        };
        Ok(tvec!(input.datum_type.fact([1, self.groups]).with_exotic_fact(fact)))
    }

    as_op!();
}

/// The columns of one group of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Panels {
    image: TValue,
    columns: Arc<Columns>,
    group: usize,
}

impl Hash for Panels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.image.as_bytes(), &self.columns, self.group).hash(state);
    }
}

impl fmt::Display for Panels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "columns of group {}", self.group)
    }
}

impl MMMInputValue for Panels {
    fn format(&self) -> &dyn MMMInputFormat {
        &*self.columns
    }

    fn scratch_panel_buffer_layout(&self) -> Option<Layout> {
        Some(self.columns.packer.single_panel_layout(self.columns.depth(), size_of::<f32>()))
    }

    #[allow(unsafe_code, reason = "tract asks for a panel by the address of its buffer")]
    fn panel_bytes(&self, panel: usize, buffer: Option<*mut u8>) -> TractResult<*const u8> {
        let buffer = buffer.context("a panel of columns needs a buffer")?;
        let size = self.columns.plane() * self.columns.channels;
        let image = self.image.try_as_plain_ram()?.as_slice::<f32>()?;
        let image = image.get(self.group * size..).context("the picture has fewer groups than the convolution")?;
        let len = self.columns.packer.single_panel_len(self.columns.depth());
        // SAFETY: tract-linalg allocates the buffer by `scratch_panel_buffer_layout`, which is the layout of `len` values of
        // float32, and lets nobody else at it during the call (`frame/mmm/scratch.rs`); `agrees` brings a vector of `len`.
        let out = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<MaybeUninit<f32>>(), len) };
        self.columns.panel(image, panel, out);
        Ok(buffer)
    }

    fn mn(&self) -> usize {
        self.columns.places()
    }

    fn k(&self) -> usize {
        self.columns.depth()
    }

    fn exotic_fact(&self) -> &dyn ExoticFact {
        &*self.columns
    }

    fn extract_at_mn_f16(&self, _: usize, _: &mut [f16]) -> TractResult<()> {
        bail!("columns are made for products of matrices alone")
    }

    fn extract_at_mn_f32(&self, _: usize, _: &mut [f32]) -> TractResult<()> {
        bail!("columns are made for products of matrices alone")
    }
}
