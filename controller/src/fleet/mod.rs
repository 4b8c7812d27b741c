//! The fleet: who belongs to it, what each device should run, and what each one said.

pub mod labels;
pub mod selector;
