//! Messages between agent and controller: topics, payloads, and the door where they are believed.
//!
//! A payload is an [`Envelope`](crate::trust::Envelope) around a postcard body; the signed payload type carries the
//! protocol version. Bodies are in [`v1`] and [`v2`]; [`open`] is the only way in.

pub mod names;
pub mod open;
pub mod topic;
pub mod v1;
pub mod v2;

pub use open::{OpenError, open_controller, open_device, seal};
pub use topic::{Topic, TopicError, Topics};

#[cfg(test)]
mod golden_tests;
