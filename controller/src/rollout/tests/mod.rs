//! The whole room against a fleet that is simulated: what a rollout does, whatever the devices do.

mod chaos;
mod commands;
mod fake;
mod gates;
mod restart;
mod scenarios;
mod table;

pub(crate) use fake::{Behaviour, Rig, quick};
