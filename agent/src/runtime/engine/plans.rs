//! Plans by concrete sizes: tract is fastest when every axis is known, so each set of sizes is optimised once and kept.

use super::caught::caught;
use super::intra_op::IntraOp;
use crate::runtime::error::{Cause, InferError, InputError, panic_message};
use fieldpost_operators::optimized;
use fieldpost_operators::standard::OutOfRange;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tract_onnx::prelude::{
    InferenceModel, InferenceModelExt, IntoRunnable, Symbol, TDim, TValue, TVec, TractError, TractResult, TypedModel,
    TypedRunnableModel, TypedSimpleState,
};
use tract_onnx::tract_core::ops::konst::Const;

/// Most plans kept at a time.
const MAX_PLANS: usize = 8;
/// Weights that all plans together may hold beyond the first two, bytes: each plan packs its own copy of them.
const PLAN_BUDGET_BYTES: usize = 256 << 20;
/// Idle states kept per plan: as many calls may run at once without making a new one.
const MAX_IDLE: usize = 8;

/// An optimised graph for one set of sizes.
pub(super) struct Plan {
    model: Arc<TypedRunnableModel>,
    /// States between calls; a state is a table with one entry per node, worth keeping for small models.
    idle: Mutex<Vec<TypedSimpleState>>,
    intra_op: IntraOp,
}

impl Plan {
    pub(super) fn new(model: TypedModel) -> TractResult<Self> {
        Ok(Self { model: model.into_runnable()?, idle: Mutex::new(Vec::new()), intra_op: IntraOp::default() })
    }

    /// The graph as optimised.
    pub(super) fn model(&self) -> &TypedModel {
        self.model.model()
    }

    /// Runs once. The state of a call that fails or panics is thrown away.
    pub(super) fn run(&self, inputs: TVec<TValue>) -> Result<TVec<TValue>, InferError> {
        let idle = lock(&self.idle).pop();
        let call = move || -> TractResult<(TypedSimpleState, TVec<TValue>)> {
            let mut state = idle.map_or_else(|| self.model.spawn(), Ok)?;
            let outputs = self.intra_op.run(|| state.run(inputs))?;
            Ok((state, outputs))
        };
        let (state, outputs) =
            caught(call).map_err(|payload| InferError::Panic(panic_message(payload.as_ref())))?.map_err(stopped)?;
        // Operators with a state of their own (recurrent ones) may carry it from turn to turn: nobody's values may reach
        // the next caller.
        if state.op_states.iter().all(Option::is_none) {
            let mut idle = lock(&self.idle);
            if idle.len() < MAX_IDLE {
                idle.push(state);
            }
        }
        Ok(outputs)
    }
}

/// An index that is a request's own is its sender's fault; all else that stops a run is the model's.
fn stopped(source: TractError) -> InferError {
    match source.downcast_ref::<OutOfRange>() {
        Some(OutOfRange { node, found, least, most, of_request: true }) => {
            InferError::Input(InputError::Value { node: node.clone(), least: *least, most: *most, found: *found })
        }
        _ => InferError::Run(Cause::from(source)),
    }
}

/// What plans are made from.
pub(super) enum Base {
    /// Types and shapes are known but for the values of symbols. Some graphs are kept as they were read, too:
    /// what was tidied up with open sizes cannot always be optimised for those of a request.
    Typed(TypedModel, Option<InferenceModel>),
    /// Shapes could be inferred only once sizes were concrete.
    Inference(InferenceModel),
}

impl Base {
    /// Optimises for these sizes. Slow: milliseconds to seconds.
    pub(super) fn plan(&self, symbols: &[Symbol], sizes: &[usize]) -> TractResult<Plan> {
        let values = values(symbols, sizes)?;
        match self {
            Self::Typed(model, recurrent) => {
                let plan = model.set_symbols(&values).and_then(|model| Plan::new(optimized(model)?));
                match recurrent {
                    Some(model) => plan.or_else(|error| Self::from_inference(model, &values).map_err(|_| error)),
                    None => plan,
                }
            }
            Self::Inference(model) => Self::from_inference(model, &values),
        }
    }

    /// The same from the graph as it was read, where that is kept.
    fn spare(&self, symbols: &[Symbol], sizes: &[usize]) -> Option<TractResult<Plan>> {
        match self {
            Self::Typed(_, Some(spare)) => {
                Some(values(symbols, sizes).and_then(|values| Self::from_inference(spare, &values)))
            }
            Self::Typed(_, None) | Self::Inference(_) => None,
        }
    }

    fn from_inference(model: &InferenceModel, values: &HashMap<Symbol, TDim>) -> TractResult<Plan> {
        let mut model = model.clone();
        model.set_symbols(values)?;
        Plan::new(optimized(model.into_typed()?)?)
    }

    fn weight_bytes(&self) -> usize {
        match self {
            Self::Typed(model, _) => bytes(model.nodes().iter().filter_map(|node| node.op_as())),
            Self::Inference(model) => bytes(model.nodes().iter().filter_map(|node| node.op_as())),
        }
    }
}

fn values(symbols: &[Symbol], sizes: &[usize]) -> TractResult<HashMap<Symbol, TDim>> {
    let value = |(symbol, size): (&Symbol, &usize)| Ok((symbol.clone(), TDim::Val(i64::try_from(*size)?)));
    symbols.iter().zip(sizes).map(value).collect()
}

/// What constants hold.
pub(super) fn bytes<'c>(constants: impl Iterator<Item = &'c Const>) -> usize {
    constants.map(|konst| konst.val().len().saturating_mul(konst.val().datum_type().size_of())).sum()
}

/// The place of one plan.
#[derive(Default)]
pub(super) struct Slot {
    plan: OnceLock<Arc<Plan>>,
    building: Mutex<()>,
    /// Whether a run of the plan ever succeeded.
    proven: AtomicBool,
    spare: Mutex<Spare>,
}

/// A plan from the graph as it was read, for sizes at which no plan has succeeded yet.
#[derive(Default)]
enum Spare {
    #[default]
    Untried,
    /// There is none, or none is needed.
    None,
    Made(Arc<Plan>),
}

impl Slot {
    /// What needs no other plan.
    fn proven(plan: Arc<Plan>) -> Self {
        let slot = Self { proven: AtomicBool::new(true), ..Self::default() };
        // A new slot has no plan yet.
        drop(slot.plan.set(plan));
        slot
    }
}

/// The plans of one model.
pub(super) enum Plans {
    /// Every size was fixed when the model was loaded.
    One(Plan),
    /// Sizes come with each call.
    BySizes(Box<BySizes>),
}

/// The least recently used of at most `bound` plans makes room.
pub(super) struct BySizes {
    base: Base,
    symbols: Vec<Symbol>,
    bound: usize,
    kept: Mutex<Kept>,
}

/// By sizes, least recently used first.
type Kept = Vec<(Box<[usize]>, Arc<Slot>)>;

/// Why there is no answer for some sizes, the model being sound.
pub(super) enum NoPlan {
    Refused(Cause),
    Panic(String),
}

impl Plans {
    /// Runs with the plan for these sizes, making it first where there is none.
    pub(super) fn run(
        &self,
        sizes: &[usize],
        inputs: TVec<TValue>,
    ) -> Result<Result<TVec<TValue>, InferError>, NoPlan> {
        match self {
            Self::One(plan) => Ok(plan.run(inputs)),
            Self::BySizes(plans) => plans.run(sizes, inputs),
        }
    }

    /// How many are kept.
    pub(super) fn room(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::BySizes(plans) => plans.bound,
        }
    }

    /// Lets go of those for other sizes.
    pub(super) fn retain(&self, wanted: impl Fn(&[usize]) -> bool) {
        if let Self::BySizes(plans) = self {
            lock(&plans.kept).retain(|(sizes, _)| wanted(sizes));
        }
    }
}

impl BySizes {
    pub(super) fn new(base: Base, symbols: Vec<Symbol>) -> Self {
        let bound = (PLAN_BUDGET_BYTES / base.weight_bytes().max(1)).clamp(2, MAX_PLANS);
        Self { base, symbols, bound, kept: Mutex::default() }
    }

    /// With one plan made already.
    pub(super) fn with(self, sizes: &[usize], plan: Plan) -> Self {
        // A new slot has no plan yet.
        drop(slot(&mut lock(&self.kept), self.bound, sizes).plan.set(Arc::new(plan)));
        self
    }

    /// Another size is not kept waiting while a plan is made.
    fn run(&self, sizes: &[usize], inputs: TVec<TValue>) -> Result<Result<TVec<TValue>, InferError>, NoPlan> {
        let slot = slot(&mut lock(&self.kept), self.bound, sizes);
        if let Some(plan) = slot.plan.get() {
            return self.run_in(&slot, plan, sizes, inputs);
        }
        let building = lock(&slot.building);
        if slot.plan.get().is_none() {
            let made = caught(|| self.base.plan(&self.symbols, sizes))
                .map_err(|payload| NoPlan::Panic(panic_message(payload.as_ref())))
                .and_then(|made| made.map_err(|source| NoPlan::Refused(source.into())));
            match made {
                // Nobody else sets it: `building` is held.
                Ok(plan) => drop(slot.plan.set(Arc::new(plan))),
                Err(no_plan) => {
                    // An empty slot would take the place of a plan that serves.
                    lock(&self.kept).retain(|(_, other)| !Arc::ptr_eq(other, &slot));
                    return Err(no_plan);
                }
            }
        }
        drop(building);
        match slot.plan.get() {
            Some(plan) => self.run_in(&slot, plan, sizes, inputs),
            None => Err(NoPlan::Panic("a plan vanished".to_owned())),
        }
    }

    /// tract finds some sizes that do not go together only when it runs. They are the caller's: the graph ran with others when
    /// it was tested. What was tidied up with open sizes may show only then that it was done wrong, too: so until a run with
    /// these sizes has succeeded, one that fails is run again by the graph as it was read. That both fail proves nothing:
    /// it may be due to the caller's values.
    fn run_in(
        &self,
        slot: &Arc<Slot>,
        plan: &Plan,
        sizes: &[usize],
        inputs: TVec<TValue>,
    ) -> Result<Result<TVec<TValue>, InferError>, NoPlan> {
        if slot.proven.load(Ordering::Relaxed) {
            return Ok(plan.run(inputs));
        }
        let refused = match plan.run(inputs.clone()) {
            Err(InferError::Run(source)) => NoPlan::Refused(source),
            Err(error) => return Ok(Err(error)),
            Ok(outputs) => {
                slot.proven.store(true, Ordering::Relaxed);
                *lock(&slot.spare) = Spare::None;
                return Ok(Ok(outputs));
            }
        };
        let Some(spare) = self.spare(slot, sizes) else { return Err(refused) };
        match spare.run(inputs) {
            Err(InferError::Run(_)) => Err(refused),
            Err(error) => Ok(Err(error)),
            Ok(outputs) => {
                let proven = Arc::new(Slot::proven(spare));
                if let Some((_, held)) = lock(&self.kept).iter_mut().find(|(_, held)| Arc::ptr_eq(held, slot)) {
                    *held = proven;
                }
                Ok(Ok(outputs))
            }
        }
    }

    /// Whoever needs it while it is made waits.
    fn spare(&self, slot: &Slot, sizes: &[usize]) -> Option<Arc<Plan>> {
        let mut spare = lock(&slot.spare);
        if matches!(*spare, Spare::Untried) {
            let made = caught(|| self.base.spare(&self.symbols, sizes));
            *spare = match made {
                Ok(Some(Ok(plan))) => Spare::Made(Arc::new(plan)),
                _ => Spare::None,
            };
        }
        match &*spare {
            Spare::Made(plan) => Some(Arc::clone(plan)),
            Spare::None | Spare::Untried => None,
        }
    }
}

/// The slot for some sizes, made most recently used.
fn slot(kept: &mut Kept, bound: usize, sizes: &[usize]) -> Arc<Slot> {
    if let Some(at) = kept.iter().position(|(held, _)| held.as_ref() == sizes) {
        if let Some(used) = kept.get_mut(at..) {
            used.rotate_left(1);
        }
    } else {
        if kept.len() >= bound {
            kept.remove(0);
        }
        kept.push((sizes.into(), Arc::default()));
    }
    kept.last().map(|(_, slot)| Arc::clone(slot)).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Plans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(_) => f.write_str("One"),
            Self::BySizes(plans) => {
                let sizes: Vec<_> = lock(&plans.kept).iter().map(|(sizes, _)| sizes.clone()).collect();
                f.debug_struct("BySizes").field("bound", &plans.bound).field("kept", &sizes).finish_non_exhaustive()
            }
        }
    }
}

#[cfg(test)]
#[path = "plans_tests.rs"]
mod tests;
