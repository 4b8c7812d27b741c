//! Operators of ONNX's own domain in place of tract's, where tract's give other answers or refuse what real models hold.
//!
//! [`register`] puts them into tract's register. Like the room of `ai.onnx.ml`, this one knows tract and nothing else of the
//! program.
//!
//! - `QuantizeLinear`, `DequantizeLinear`: tract joins a pair of them with what lies between into a table or an operator on
//!   integers, and a quantised transformer then answered 0.25 where 0.97 is right. Here they are what they say, no more.
//! - `Squeeze` without axes.
//! - `half`: sums of numbers of float16 are of float32.
//! - `IsInf`, `IsNaN`, and `Equal` of booleans: tract lacks some of their types.
//! - `largest`: of numbers one of which is NaN there is no largest.
//! - `If`: a branch that the condition rules out need not make sense.
//! - `RNN`, `GRU`, `LSTM`: tract reads neither `direction = "reverse"` nor `activations`, `clip` or `input_forget`.
//! - `Celu`, `Swish`: tract's have no `alpha`.
//! - `LogSoftmax`, `Softplus`, `ReduceLogSumExp` as far as numbers go: tract's end where an exponential does.
//! - `Attention`: a query that sees nothing answers zero. `NonMaxSuppression`: no boxes where none are asked for.
//! - `Gemm` of other numbers than float32. `Cast` to int64 keeps all bits.
//! - [`rewrite`]: what is said in another way before tract reads it.
//! - `Gather`, `GatherElements`, `GatherND`, `ScatterElements`, `ScatterND`, `TopK`: what a run brings is looked at first
//!   ([`OutOfRange`]). `OneHot` marks no place for an index outside of it.
//! - `Upsample`, and `Resize` of opset 10, as the `Resize` that they are; `Resize` with aligned corners.
//! - `unread`: attributes that tract passes over, so that the answer would be another one; such a graph is refused.

mod activation;
pub(crate) mod aligned;
mod attention;
mod branch;
mod flip;
mod gemm;
mod half;
mod indices;
mod integers;
pub(crate) mod kinds;
pub(crate) mod largest;
mod names;
mod nibbles;
mod one_hot;
mod origin;
pub(crate) mod plans;
mod quantize;
mod recurrent;
pub(crate) mod replaced;
mod resize;
mod rewrite;
mod rewritten;
pub(crate) mod square;
mod squeeze;
mod stable;
mod suppression;
mod translated;
mod unread;
mod wide;

pub use indices::OutOfRange;
pub use names::check_names;
pub use rewrite::rewrite;

use crate::ml::kernel::build;
use std::collections::HashMap;
use std::sync::LazyLock;
use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;
type Builder = fn(&ParsingContext<'_>, &NodeProto) -> Built;

static TRACTS: LazyLock<HashMap<String, Builder>> = LazyLock::new(|| tract_onnx::onnx().op_register.0);

/// What tract itself makes of a node, as an operator of this name.
fn tracts(name: &str, context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let builder = TRACTS.get(name).with_context(|| format!("tract has no operator `{name}`"))?;
    builder(context, node)
}

/// Replaces tract's operators of the same names.
pub fn register(operators: &mut OnnxOpRegister) {
    unread::register(operators);
    half::register(operators);
    operators.insert("Attention", attention::build);
    operators.insert("Celu", activation::build::<activation::Celu>);
    operators.insert("DequantizeLinear", build::<quantize::DequantizeLinear>);
    operators.insert("Gemm", gemm::build);
    operators.insert("GRU", recurrent::build);
    operators.insert("If", branch::build);
    operators.insert("IsInf", build::<kinds::IsInf>);
    operators.insert("IsNaN", build::<kinds::IsNan>);
    operators.insert("LogSoftmax", stable::log_softmax);
    operators.insert("LSTM", recurrent::build);
    operators.insert("QuantizeLinear", build::<quantize::QuantizeLinear>);
    operators.insert("RNN", recurrent::build);
    operators.insert("Resize", resize::resize);
    operators.insert("Softplus", build::<activation::Softplus>);
    operators.insert("Squeeze", squeeze::build);
    operators.insert("Swish", activation::build::<activation::Swish>);
    operators.insert("Upsample", resize::upsample);
    // What `rewrite` puts into graphs.
    operators.insert(rewritten::ADDED, build::<rewritten::Added>);
    operators.insert(rewritten::FINITE, build::<activation::FiniteOrZero>);
    operators.insert(rewritten::FROM_THE_FRONT, build::<rewritten::FromTheFront>);
    operators.insert(rewritten::LIKE, build::<rewritten::Like>);
    operators.insert(rewritten::LIST, build::<rewritten::List>);
    operators.insert(rewritten::NUMBERS, build::<rewritten::Numbers>);
    operators.insert(rewritten::REAL, build::<rewritten::Real>);
}

#[cfg(test)]
mod tests;
