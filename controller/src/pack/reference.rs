//! Data like what the model will meet: a NumPy file, a CSV file with a header, or a folder of requests, read one row at a
//! time. Of very many rows an even share is taken.

use super::npy::{Npy, NpyError};
use super::request::{Cell, Request, Row, Sample, Target, categorical, of_record, of_row};
use fieldpost_shared::bundle::manifest::Preprocess;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Most rows that a baseline is made of: with 32 bins their noise in PSI is below 0.002.
pub const MAX_ROWS: usize = 20_000;
/// Largest sample file.
const MAX_SAMPLE_BYTES: u64 = 64 << 20;

/// Reference data or samples that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// A file or folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A NumPy file that is not one.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// A CSV file that is not one.
    #[error("cannot read `{}`", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: csv::Error,
    },
    /// A cell without a number.
    #[error("`{}` holds `{text}` in row {row}, column `{column}`, where a number belongs", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// The record, from 0.
        row: usize,
        /// The column's name.
        column: String,
        /// What is there.
        text: String,
    },
    /// A kind of file that nothing can be made of.
    #[error("`{}` is {expected}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is not.
        expected: &'static str,
    },
    /// Nothing to read.
    #[error("`{}` holds nothing to ask the model", path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
    /// A sample that is too large, or not the JSON that it should be.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Sample {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Rows that do not fit the model.
    #[error("{reason}")]
    Misfit {
        /// Why.
        reason: String,
    },
}

/// Opened reference data; rows are asked for in ascending order.
#[derive(Debug)]
pub enum Reference {
    /// Rows of numbers.
    Npy(Npy),
    /// Records under a header.
    Csv(Table),
    /// One request per file, in the order of their names.
    Folder(Vec<PathBuf>),
}

/// A CSV file.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    header: Vec<String>,
    rows: usize,
    records: csv::Reader<File>,
    next: usize,
}

impl Reference {
    /// Opens a file by its ending, or a folder.
    ///
    /// # Errors
    /// When it cannot be read, is of no known kind, or is empty.
    pub fn open(path: &Path) -> Result<Self, ReferenceError> {
        let failed = |source| ReferenceError::Read { path: path.to_owned(), source };
        if fs::metadata(path).map_err(failed)?.is_dir() {
            return folder(path).map(Self::Folder);
        }
        match extension(path).as_str() {
            "npy" => Ok(Self::Npy(Npy::open(path)?)),
            "csv" => Table::open(path).map(Self::Csv),
            _ => Err(ReferenceError::Kind {
                path: path.to_owned(),
                expected: "neither a .npy file, a .csv file nor a folder",
            }),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Npy(npy) => npy.rows(),
            Self::Csv(table) => table.rows,
            Self::Folder(files) => files.len(),
        }
    }

    /// Names of the columns, where the data has them.
    #[must_use]
    pub fn header(&self) -> Option<&[String]> {
        match self {
            Self::Csv(table) => Some(&table.header),
            Self::Npy(_) | Self::Folder(_) => None,
        }
    }

    /// One row as a request.
    ///
    /// # Errors
    /// When it cannot be read or does not fit the model.
    pub fn sample(&mut self, index: usize, target: Target<'_>) -> Result<Sample, ReferenceError> {
        let name = format!("row {index}");
        match self {
            Self::Npy(npy) => {
                let data = npy.row(index)?;
                let row = Row { dtype: npy.dtype(), shape: npy.row_shape(), data: &data };
                Ok(Sample { name, request: of_row(target, row)? })
            }
            Self::Csv(table) => {
                let record = table.record(index, target)?;
                Ok(Sample { name, request: of_record(target, &table.header, &record)? })
            }
            Self::Folder(files) => match files.get(index) {
                Some(path) => file_sample(path, target),
                None => Err(ReferenceError::Misfit { reason: format!("there is no {name}") }),
            },
        }
    }
}

/// Which of `rows` are taken when at most `most` are wanted: all, or evenly spread ones.
pub fn spread(rows: usize, most: usize) -> impl Iterator<Item = usize> {
    let taken = rows.min(most);
    // Rows and the limit are far below 2^32, so the product fits.
    (0..taken).map(move |i| i.saturating_mul(rows) / taken.max(1))
}

/// The files of a folder in the order of their names, hidden ones left out.
///
/// # Errors
/// When it cannot be read, or holds no file.
pub fn folder(path: &Path) -> Result<Vec<PathBuf>, ReferenceError> {
    let failed = |source| ReferenceError::Read { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && !entry.path().is_dir() {
            files.push(entry.path());
        }
    }
    files.sort();
    if files.is_empty() { Err(ReferenceError::Empty { path: path.to_owned() }) } else { Ok(files) }
}

/// The request in a file: an image, or JSON as the model's kind of input asks for.
///
/// # Errors
/// When it cannot be read, is too large, or of another kind than the model takes.
pub fn file_sample(path: &Path, target: Target<'_>) -> Result<Sample, ReferenceError> {
    let failed = |source| ReferenceError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > MAX_SAMPLE_BYTES {
        let reason = format!("it has {size} bytes, at most {MAX_SAMPLE_BYTES} are read");
        return Err(ReferenceError::Sample { path: path.to_owned(), reason });
    }
    let bytes = fs::read(path).map_err(failed)?;
    let kind = |expected| ReferenceError::Kind { path: path.to_owned(), expected };
    let json = || {
        serde_json::from_slice(&bytes)
            .map_err(|error| ReferenceError::Sample { path: path.to_owned(), reason: error.to_string() })
    };
    let request = match (&target.manifest.preprocess, extension(path).as_str()) {
        (Preprocess::Image(_), "png" | "jpg" | "jpeg" | "webp" | "bmp") => Request::Image(bytes),
        (Preprocess::Image(_), _) => return Err(kind("no .png, .jpg, .webp or .bmp, and the model takes images")),
        (Preprocess::Bytes(_), _) => Request::Bytes(bytes),
        (Preprocess::Tabular(_), "json") => Request::Json(json()?),
        (Preprocess::Tabular(_), _) => return Err(kind("no .json file with an object of features")),
        (Preprocess::Tensor, "json") => {
            // The very code that reads requests on a device.
            let tensors = fieldpost_agent::serve::request_tensors(&bytes, target.manifest)
                .map_err(|error| ReferenceError::Sample { path: path.to_owned(), reason: error.to_string() })?;
            Request::Tensors(tensors)
        }
        (Preprocess::Tensor, _) => return Err(kind("no .json file with an inference request")),
    };
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    Ok(Sample { name, request })
}

fn extension(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

impl Table {
    fn reader(path: &Path) -> Result<csv::Reader<File>, ReferenceError> {
        csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_path(path)
            .map_err(|source| ReferenceError::Csv { path: path.to_owned(), source })
    }

    fn open(path: &Path) -> Result<Self, ReferenceError> {
        let failed = |source| ReferenceError::Csv { path: path.to_owned(), source };
        // Counted once, then read again from the start: the file may be larger than memory.
        let mut counter = Self::reader(path)?;
        let (mut rows, mut record) = (0_usize, csv::StringRecord::new());
        while counter.read_record(&mut record).map_err(failed)? {
            rows = rows.saturating_add(1);
        }
        if rows == 0 {
            return Err(ReferenceError::Empty { path: path.to_owned() });
        }
        let mut reader = Self::reader(path)?;
        let header: Vec<String> = reader.headers().map_err(failed)?.iter().map(str::to_owned).collect();
        Ok(Self { path: path.to_owned(), header, rows, records: reader, next: 0 })
    }

    /// The cells of a record; texts where a feature has categories, else numbers. An empty cell, `NA`, `NaN` and `null` are missing.
    fn record(&mut self, index: usize, target: Target<'_>) -> Result<Vec<Cell>, ReferenceError> {
        let skip = index.saturating_sub(self.next);
        self.next = index.saturating_add(1);
        let record = match self.records.records().nth(skip) {
            Some(record) => record.map_err(|source| ReferenceError::Csv { path: self.path.clone(), source })?,
            None => return Err(ReferenceError::Misfit { reason: format!("there is no row {index}") }),
        };
        let is_text = |column: &str| match &target.manifest.preprocess {
            Preprocess::Tabular(tabular) => categorical(tabular, column),
            _ => false,
        };
        let cell = |(column, text): (&String, &str)| match text {
            "" => Ok(Cell::Missing),
            text if is_text(column) => Ok(Cell::Text(text.to_owned())),
            "NA" | "na" | "NaN" | "nan" | "null" => Ok(Cell::Missing),
            text => text.parse().map(Cell::Number).map_err(|_not_a_number| ReferenceError::Cell {
                path: self.path.clone(),
                row: index,
                column: column.clone(),
                text: text.chars().take(40).collect(),
            }),
        };
        self.header.iter().zip(record.iter()).map(cell).collect()
    }
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
