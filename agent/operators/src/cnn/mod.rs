//! What convolutional networks spend their time in beside the products themselves, done faster than tract does it.
//!
//! - `im2col`: the columns of a convolution are copied in runs, not gathered one by one, and padding is made on the way.
//! - `max_pool`: rows first, then columns.
//!
//! Both take the place of tract's operators in a graph that it has optimised. The answers are the same to the bit: columns are
//! compared with tract's own before they replace them, and a maximum is a maximum.

mod im2col;
mod max_pool;
mod windows;

#[cfg(test)]
mod tests;

pub(crate) use im2col::Convolutions;
pub(crate) use max_pool::replace as replace_pools;
