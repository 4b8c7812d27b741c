//! fieldpost's agent: brings signed model releases onto a box, runs them, reports, and takes them back.

pub mod deploy;
pub mod monitor;
pub mod store;
