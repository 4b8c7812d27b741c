//! What fieldpost's agent and controller must agree on: names, time, signed messages, trust, bundles and statistics.
//!
//! The rooms [`trust`], [`bundle`] and [`stats`] are pure: no clock, no network, no async runtime. Only [`durable`]
//! and [`time::SystemClock`] touch the machine, and both are behind narrow functions.

pub mod backoff;
pub mod bundle;
pub mod durable;
pub mod error_chain;
pub mod id;
pub mod stats;
pub mod time;
pub mod trust;
pub mod wire;
