//! tract behind [`Engine`]: one run of a graph.

use super::caught::caught;
use super::plans::{NoPlan, Plans};
use super::{Ends, Engine, convert, open};
use crate::runtime::error::{Cause, InferError, InputError, LoadError, panic_message};
use fieldpost_shared::bundle::{Tensor, TensorSpec};
use std::path::Path;
use tract_onnx::prelude::{Symbol, SymbolValues, TDim, TVec, TractError, TractResult};

/// A graph in tract.
#[derive(Debug)]
pub(super) struct TractEngine {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
    /// Each symbol that sizes are taken from, and the axes that state it.
    pub(super) free: Vec<Free>,
    /// Axes whose size follows from symbols, such as `past+1`.
    pub(super) derived: Vec<Derived>,
    pub(super) plans: Plans,
}

/// An axis size that the caller chooses.
#[derive(Debug)]
pub(super) struct Free {
    pub(super) symbol: Symbol,
    pub(super) name: String,
    /// (input, axis) pairs, at least one.
    pub(super) at: Vec<(usize, usize)>,
}

/// An axis size that follows from those that the caller chooses.
#[derive(Debug)]
pub(super) struct Derived {
    pub(super) input: usize,
    pub(super) axis: usize,
    pub(super) size: TDim,
}

impl TractEngine {
    pub(super) fn open(dir: &Path, file: &str, allowed: Option<&[&str]>, ends: Ends<'_>) -> Result<Self, LoadError> {
        let path = dir.join(file);
        // Malformed files have made tract panic; the release is to blame for that, and the agent lives on.
        caught(|| open::open(dir, file, allowed, ends))
            .unwrap_or_else(|payload| Err(LoadError::Panic { path, message: panic_message(payload.as_ref()) }))
    }

    /// The size of each free axis, in the order of `self.free`.
    fn sizes(&self, inputs: &[Tensor]) -> Result<TVec<usize>, InputError> {
        let size = |(input, axis): (usize, usize)| inputs.get(input).and_then(|tensor| tensor.shape.get(axis)).copied();
        let name = |input: usize| self.inputs.get(input).map(|spec| spec.name.clone()).unwrap_or_default();
        let mut sizes = TVec::with_capacity(self.free.len());
        for free in &self.free {
            let mut first: Option<(usize, usize)> = None;
            for (input, axis) in &free.at {
                let found = size((*input, *axis)).unwrap_or(0);
                if found == 0 {
                    return Err(InputError::Tensor {
                        input: name(*input),
                        expected: format!("at least 1 in axis {axis} (`{}`)", free.name),
                        found: "0".to_owned(),
                    });
                }
                match first {
                    None => first = Some((*input, found)),
                    Some((_, first)) if first == found => {}
                    Some((first_input, first)) => {
                        return Err(InputError::Symbol {
                            symbol: free.name.clone(),
                            first_input: name(first_input),
                            first,
                            second_input: name(*input),
                            second: found,
                        });
                    }
                }
            }
            sizes.push(first.map_or(0, |(_, size)| size));
        }
        if !self.derived.is_empty() {
            self.check_derived(inputs, &sizes)?;
        }
        Ok(sizes)
    }

    fn check_derived(&self, inputs: &[Tensor], sizes: &[usize]) -> Result<(), InputError> {
        let mut values = SymbolValues::default();
        for (free, size) in self.free.iter().zip(sizes) {
            values.set(&free.symbol, i64::try_from(*size).unwrap_or(i64::MAX));
        }
        for Derived { input, axis, size } in &self.derived {
            let found = inputs.get(*input).and_then(|tensor| tensor.shape.get(*axis)).copied().unwrap_or(0);
            let expected = size.eval(&values);
            if expected.as_i64() != i64::try_from(found).ok() {
                return Err(InputError::Tensor {
                    input: self.inputs.get(*input).map(|spec| spec.name.clone()).unwrap_or_default(),
                    expected: format!("{expected} in axis {axis} (`{size}`)"),
                    found: found.to_string(),
                });
            }
        }
        Ok(())
    }
}

impl Engine for TractEngine {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InferError> {
        let sizes = self.sizes(inputs)?;
        let copied: TractResult<TVec<_>> = inputs.iter().map(convert::to_tract).collect();
        let copied = copied.map_err(|source| InferError::Run(Cause::from(source)))?;
        let values = self.plans.run(&sizes, copied).map_err(|no_plan| match no_plan {
            // The graph ran with other sizes when it was loaded and tested, so these are what is wrong.
            NoPlan::Refused(source) => InferError::Input(InputError::Shapes { shapes: shapes_text(inputs), source }),
            NoPlan::Panic(message) => InferError::Panic(message),
        })??;
        if values.len() != self.outputs.len() {
            let found = TractError::msg(format!("{} outputs instead of {}", values.len(), self.outputs.len()));
            return Err(InferError::Run(found.into()));
        }
        let specs = self.outputs.iter();
        specs.zip(&values).map(|(spec, value)| convert::from_tract(&spec.name, spec.dtype, value)).collect()
    }

    fn plan_room(&self) -> usize {
        self.plans.room()
    }

    fn keep_batches(&self, most: usize) {
        self.plans.retain(|sizes| !matches!(sizes, [rows] if *rows > most));
    }
}

fn shapes_text(inputs: &[Tensor]) -> String {
    let shapes: Vec<String> = inputs.iter().map(|input| format!("{:?}", input.shape)).collect();
    shapes.join(", ")
}
