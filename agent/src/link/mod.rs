//! The line to the broker: one MQTT session after another, and what is said and heard on it.
//!
//! Everything on the line is level, not edge: each connection starts clean, subscribes anew, and says the whole state
//! again, so nothing depends on what a broker remembers of us.

pub mod connection;
pub mod door;
mod reports;
pub mod rivals;
pub mod session;
pub mod speaker;
pub mod tls;

pub use connection::{ConnectError, ConnectOptions, Connection, Incoming};
pub use door::Door;
pub use rivals::Rivals;
pub use session::{Link, LinkSettings};
pub use speaker::Speaker;

#[cfg(test)]
mod testing;
