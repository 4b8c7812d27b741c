//! Operators of ONNX's own domain in place of tract's, where tract's give other answers or refuse what real models hold.
//!
//! [`register`] puts them into tract's register. Like the room of `ai.onnx.ml`, this one knows tract and nothing else of the
//! program.
//!
//! - `QuantizeLinear`, `DequantizeLinear`: tract joins a pair of them with what lies between into a table or an operator on
//!   integers, and a quantised transformer then answered 0.25 where 0.97 is right. Here they are what they say, no more.
//! - `Squeeze` without axes.
//! - `If`: a branch that the condition rules out need not make sense.

mod branch;
mod quantize;
mod squeeze;

#[cfg(test)]
mod tests;

use super::ml::kernel::build;
use tract_onnx::model::OnnxOpRegister;

/// Replaces tract's operators of the same names.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("DequantizeLinear", build::<quantize::DequantizeLinear>);
    operators.insert("If", branch::build);
    operators.insert("QuantizeLinear", build::<quantize::QuantizeLinear>);
    operators.insert("Squeeze", squeeze::build);
}
