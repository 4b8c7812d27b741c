//! fieldpost's agent: brings signed model releases onto a box, runs them, reports, and takes them back. The controller
//! uses this library for packing, `demo` and `simulate`.

pub mod config;
pub mod deploy;
pub mod fetch;
pub mod identity;
pub mod link;
pub mod monitor;
pub mod runtime;
pub mod serve;
pub mod store;
