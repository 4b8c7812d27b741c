//! Operators for [tract](https://github.com/sonos/tract), by which it runs more models, and runs them better.
//!
//! The crate knows tract and nothing else of fieldpost, so that each part can be offered upstream as it is; and it is built for
//! speed, where the agent around it is built for size.

pub mod cnn;
pub mod ml;
pub mod standard;
