//! Rollouts: a release goes through the fleet in waves, and comes back by itself when it does harm.
//!
//! Event-sourced: [`machine`] is pure, and a rollout is the fold of its [`events`]. The [`engine`] stores events before
//! it does what they ask for, and does again what a restart may have left undone; so it resumes from any moment.
//! Everything it needs of the fleet goes through [`fleet::Fleet`].

pub mod ab;
pub mod approval;
pub mod core;
pub mod duration;
pub mod engine;
pub mod events;
pub mod explain;
pub mod facts;
mod fit;
pub mod fleet;
pub mod gates;
pub mod journal;
pub mod machine;
pub mod maintenance;
pub mod order;
pub mod plan;
pub mod plot;
pub mod preview;
pub mod requires;
pub mod start;
pub mod strategy;
pub mod trial;
pub mod upcoming;
pub mod view;

#[cfg(test)]
pub(crate) mod tests;
