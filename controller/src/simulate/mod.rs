//! `fieldpost simulate`: the real rollout engine against a fleet that is made of random numbers, before it meets a real
//! one.
//!
//! [`plan`] is what a person describes; [`fleet::SimFleet`] is that fleet, behind the same trait as the real one, on a
//! clock that nobody waits for; [`replica`] is one rollout on it; [`campaign`] runs many and counts. Everything follows
//! from one seed. [`naive`] are gates that others use, on the same fleets, for comparison.

pub mod campaign;
mod device;
pub mod effect;
pub mod fleet;
pub mod naive;
pub mod plan;
mod random;
pub mod replica;
mod spans;
mod traffic;

pub use campaign::{Campaign, Report, run};
pub use effect::Effect;
pub use plan::{EXAMPLE, Plan, PlanError};

#[cfg(test)]
mod tests;
