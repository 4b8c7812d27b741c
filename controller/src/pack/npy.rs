//! Reads NumPy's `.npy` files (format 1.0 and 2.0, little-endian, C order) row by row, so that memory does not grow with
//! the file. The header is bounded and parsed as what it is, a Python dictionary of three known keys.

use fieldpost_shared::bundle::Dtype;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_AXES: usize = 8;

/// A `.npy` file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Not a `.npy` file, or not one that this program reads.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// An open file: `[rows, ...]` elements of one type.
#[derive(Debug)]
pub struct Npy {
    path: PathBuf,
    file: BufReader<File>,
    dtype: Dtype,
    rows: usize,
    row_shape: Vec<usize>,
    row_bytes: usize,
    next: usize,
}

struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Npy {
    /// Opens a file and checks its header against its size.
    ///
    /// # Errors
    /// When it is no `.npy` of a known type in C order, is a scalar or empty, or has another size than it says.
    pub fn open(path: &Path) -> Result<Self, NpyError> {
        let failed = |source| NpyError::Read { path: path.to_owned(), source };
        let refuse = |reason: String| NpyError::Format { path: path.to_owned(), reason };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::with_capacity(256 * 1024, file);
        let mut start = [0_u8; 8];
        file.read_exact(&mut start).map_err(|_short| refuse("it is not a NumPy file".to_owned()))?;
        let [m0, m1, m2, m3, m4, m5, major, _minor] = start;
        if [m0, m1, m2, m3, m4, m5] != *MAGIC {
            return Err(refuse("it is not a NumPy file".to_owned()));
        }
        let (length_bytes, header_bytes) = match major {
            1 => {
                let mut length = [0_u8; 2];
                file.read_exact(&mut length).map_err(failed)?;
                (2_u64, usize::from(u16::from_le_bytes(length)))
            }
            2 => {
                let mut length = [0_u8; 4];
                file.read_exact(&mut length).map_err(failed)?;
                (4, usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX))
            }
            other => return Err(refuse(format!("its format is {other}, this program reads 1 and 2"))),
        };
        if header_bytes > MAX_HEADER_BYTES {
            return Err(refuse(format!("its header has {header_bytes} bytes, at most {MAX_HEADER_BYTES} are allowed")));
        }
        let mut header = vec![0; header_bytes];
        file.read_exact(&mut header).map_err(failed)?;
        let header = parse_header(&String::from_utf8_lossy(&header)).map_err(&refuse)?;
        let dtype = dtype_of(&header.descr).map_err(&refuse)?;
        if header.fortran {
            return Err(refuse("its axes are in Fortran order: save it with `np.ascontiguousarray`".to_owned()));
        }
        let Some((rows, row_shape)) = header.shape.split_first() else {
            return Err(refuse("it holds a single number, not rows".to_owned()));
        };
        let too_large = || refuse(format!("its shape {:?} is too large", header.shape));
        let elements = row_shape.iter().try_fold(1_usize, |n, axis| n.checked_mul(*axis)).ok_or_else(too_large)?;
        let row_bytes = elements.checked_mul(dtype.size_bytes()).ok_or_else(too_large)?;
        let data_bytes = row_bytes.checked_mul(*rows).and_then(|n| u64::try_from(n).ok()).ok_or_else(too_large)?;
        let expected = 8 + length_bytes + u64::try_from(header_bytes).unwrap_or(u64::MAX) + data_bytes;
        if size != expected {
            return Err(refuse(format!("it has {size} bytes where its shape {:?} needs {expected}", header.shape)));
        }
        if *rows == 0 || row_bytes == 0 {
            return Err(refuse("it holds no rows".to_owned()));
        }
        let row_shape = row_shape.to_vec();
        Ok(Self { path: path.to_owned(), file, dtype, rows: *rows, row_shape, row_bytes, next: 0 })
    }

    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Axes of one row.
    #[must_use]
    pub fn row_shape(&self) -> &[usize] {
        &self.row_shape
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The bytes of a row, little-endian; rows are asked for in ascending order.
    ///
    /// # Errors
    /// When the file cannot be read, has shrunk, or the row lies behind.
    pub fn row(&mut self, index: usize) -> Result<Vec<u8>, NpyError> {
        let failed = |source| NpyError::Read { path: self.path.clone(), source };
        let skip = index.checked_sub(self.next).and_then(|rows| rows.checked_mul(self.row_bytes));
        let skip = skip.and_then(|bytes| i64::try_from(bytes).ok()).ok_or_else(|| NpyError::Format {
            path: self.path.clone(),
            reason: format!("row {index} was asked for after row {}", self.next),
        })?;
        self.file.seek_relative(skip).map_err(failed)?;
        let mut bytes = vec![0; self.row_bytes];
        self.file.read_exact(&mut bytes).map_err(failed)?;
        self.next = index.saturating_add(1);
        Ok(bytes)
    }
}

/// Type codes of `numpy.lib.format`: byte order, kind, bytes.
fn dtype_of(descr: &str) -> Result<Dtype, String> {
    Ok(match descr {
        "|b1" => Dtype::Bool,
        "|u1" => Dtype::Uint8,
        "|i1" => Dtype::Int8,
        "<i2" => Dtype::Int16,
        "<i4" => Dtype::Int32,
        "<i8" => Dtype::Int64,
        "<f4" => Dtype::Fp32,
        "<f8" => Dtype::Fp64,
        "<u2" => Dtype::Uint16,
        "<u4" => Dtype::Uint32,
        "<u8" => Dtype::Uint64,
        "<f2" => Dtype::Fp16,
        big if big.starts_with('>') => {
            return Err(format!("its elements `{big}` are big-endian: save it little-endian"));
        }
        other => {
            return Err(format!("its element type `{other}` is not read: use bool, uint8-64, int8-64 or float16-64"));
        }
    })
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`
fn parse_header(text: &str) -> Result<Header, String> {
    let broken = || "its header is malformed".to_owned();
    let value_of = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}'"))?;
        rest.trim_start().strip_prefix(':').map(str::trim_start)
    };
    let descr = value_of("descr").ok_or_else(broken)?;
    let Some(descr) = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(descr, _)| descr) else {
        return Err("it holds records, not plain numbers".to_owned());
    };
    let fortran = match value_of("fortran_order").ok_or_else(broken)? {
        text if text.starts_with("False") => false,
        text if text.starts_with("True") => true,
        _ => return Err(broken()),
    };
    let axes = value_of("shape").and_then(|rest| rest.strip_prefix('(')).ok_or_else(broken)?;
    let (axes, _) = axes.split_once(')').ok_or_else(broken)?;
    let axes: Vec<&str> = axes.split(',').map(str::trim).filter(|axis| !axis.is_empty()).collect();
    if axes.len() > MAX_AXES {
        return Err(format!("it has {} axes, at most {MAX_AXES} are read", axes.len()));
    }
    let shape = axes.into_iter().map(|axis| axis.parse::<usize>().map_err(|_not_a_number| broken()));
    Ok(Header { descr: descr.to_owned(), fortran, shape: shape.collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(major: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([major, 0]);
        match major {
            1 => bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes()),
            _ => bytes.extend(u32::try_from(header.len()).unwrap().to_le_bytes()),
        }
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}      \n")
    }

    fn open(bytes: &[u8]) -> Result<Npy, NpyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        io::Write::write_all(&mut File::create(&path).unwrap(), bytes).unwrap();
        Npy::open(&path)
    }

    fn check_refused(bytes: &[u8], expected: &str) {
        let error = open(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn rows_are_read_and_passed_over_in_both_versions() {
        for major in [1, 2] {
            let mut npy = open(&file(major, &header("|u1", "False", "(3, 2)"), &[1, 2, 3, 4, 5, 6])).unwrap();
            assert_eq!((npy.rows(), npy.row_shape(), npy.dtype()), (3, &[2][..], Dtype::Uint8));
            assert_eq!((npy.row(0).unwrap(), npy.row(2).unwrap()), (vec![1, 2], vec![5, 6]));
            assert!(npy.row(1).is_err());
        }
    }

    #[test]
    fn the_files_of_the_test_models_are_read() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
        let digits = Npy::open(&models.join("digits-1.0/reference.npy")).unwrap();
        assert_eq!((digits.rows(), digits.row_shape(), digits.dtype()), (300, &[8, 8][..], Dtype::Uint8));
        let nan = Npy::open(&models.join("bad/nan-output/reference.npy")).unwrap();
        assert_eq!((nan.rows(), nan.row_shape(), nan.dtype()), (8, &[4][..], Dtype::Fp32));
    }

    #[test]
    fn another_size_than_stated_is_refused() {
        check_refused(&file(1, &header("|u1", "False", "(3, 2)"), &[1, 2, 3, 4, 5]), "bytes where its shape [3, 2]");
        check_refused(&file(1, &header("|u1", "False", "(1, 2)"), &[1, 2, 3]), "bytes where its shape [1, 2]");
        let vast = header("<f8", "False", "(4294967296, 4294967296, 9)");
        check_refused(&file(1, &vast, &[]), "too large");
    }

    #[test]
    fn what_is_not_rows_of_plain_numbers_is_named() {
        check_refused(b"PK\x03\x04 a zip, or .npz", "not a NumPy file");
        check_refused(b"", "not a NumPy file");
        check_refused(&file(1, &header("<f4", "True", "(1,)"), &[0; 4]), "Fortran order");
        check_refused(&file(1, &header(">f4", "False", "(1,)"), &[0; 4]), "big-endian");
        check_refused(&file(1, &header("|O", "False", "(1,)"), &[0; 4]), "`|O` is not read");
        check_refused(&file(1, &header("<f4", "False", "()"), &[0; 4]), "a single number");
        check_refused(&file(1, &header("<f4", "False", "(0, 4)"), &[]), "no rows");
        check_refused(&file(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", &[0; 4]), "records");
        check_refused(&file(1, &header("<f4", "False", "(-1,)"), &[]), "malformed");
        check_refused(&file(3, &header("<f4", "False", "(1,)"), &[0; 4]), "format is 3");
    }

    #[test]
    fn noise_after_the_magic_never_panics() {
        for length in 0..40_u8 {
            let mut bytes = MAGIC.to_vec();
            bytes.extend((0..length).map(|i| i.wrapping_mul(73)));
            drop(open(&bytes));
        }
    }
}
