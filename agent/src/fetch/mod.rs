//! Bringing a release onto the disk: only the chunks that are missing, checked one by one, resumed after anything.
//!
//! ```text
//! DATA/chunks/<sha256>                       chunks that have come, until their release is whole
//! DATA/releases/<manifest>/files/...         the files of a release
//! DATA/releases/<manifest>/manifest.json     written last: its presence says that the release is whole
//! DATA/releases/<manifest>/unfinished.json   the same before that, and after damage was found: its chunks are kept
//! ```

pub mod assemble;
pub mod disk;
pub mod download;
pub mod exchange;
pub mod fit;
pub mod places;

pub use disk::Disk;
pub use download::{Downloader, FetchError, FetchSettings};
pub use exchange::BlobExchange;
