//! The whole room against a fleet that is simulated: what a rollout does, whatever the devices do.

mod ab;
mod chaos;
mod clock;
mod commands;
mod fake;
mod gates;
mod late;
mod late_shadow;
mod restart;
mod scenarios;
mod schedule;
mod several;
mod shadow;
mod shadow_windows;
mod silence;
mod table;
mod trial;
mod waves;
mod way_back;

pub(crate) use fake::{Behaviour, Rig, quick};
