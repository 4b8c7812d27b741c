//! Between the controller and the broker, whichever broker it is: what should be retained there, and what devices say.

pub mod outbox;
