//! Bringing a release onto the disk: only the chunks that are missing, checked one by one, resumed after anything.
//!
//! ```text
//! DATA/chunks/<sha256>                     chunks that have come, until their release is whole
//! DATA/releases/<manifest>/files/...       the files of a whole release
//! DATA/releases/<manifest>/manifest.json   written last: its presence says that the release is whole
//! ```

pub mod assemble;
pub mod disk;
pub mod download;
pub mod exchange;
pub mod fit;

pub use disk::Disk;
pub use download::{Downloader, FetchError, FetchSettings};
pub use exchange::BlobExchange;
