//! What can go wrong, by whose fault: the release's ([`LoadError`]), the caller's ([`InputError`]), the model's ([`InferError`]).

use fieldpost_shared::bundle::tensor::TensorError;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// An error of a library underneath, with its chain of causes.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// Which end of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What goes in.
    Input,
    /// What comes out.
    Output,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// Why a release's model cannot be used on this runtime.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file could not be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The manifest names no model file, although it was checked to name one.
    #[error("the manifest names no model file")]
    NoModelFile,
    /// Not an ONNX file, or one that breaks off.
    #[error("`{path}` is not a whole ONNX model: export it again, and compare its size and sha256 with the original")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the decoder found.
        #[source]
        source: Cause,
    },
    /// An operator that the runtime does not have at all.
    #[error("node `{node}`: operator `{operator}` is not supported; {hint}")]
    Operator {
        /// The node's name, or its first output where it has none.
        node: String,
        /// The operator, with its domain where that is not ONNX's own.
        operator: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A node that the runtime cannot run as it is used here.
    #[error("node `{node}`: operator `{operator}` cannot run in this graph; {hint}")]
    Node {
        /// The node's name, or its first output where it has none.
        node: String,
        /// The operator.
        operator: String,
        /// What to do about it.
        hint: &'static str,
        /// The engine's reason.
        #[source]
        source: Cause,
    },
    /// The graph as a whole is refused, no node being to blame by name.
    #[error(
        "the graph of `{path}` cannot run; check it with onnx.checker and onnx.shape_inference, and export it again"
    )]
    Graph {
        /// The file.
        path: PathBuf,
        /// The engine's reason.
        #[source]
        source: Cause,
    },
    /// Weights that should lie in a file beside the graph.
    #[error("tensor `{tensor}` has its data in `{location}`, {reason}")]
    External {
        /// The tensor.
        tensor: String,
        /// The path stated in the graph.
        location: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An input or output that the runtime cannot serve, or that is not as the manifest says.
    #[error("{side} `{tensor}`: expected {expected}, found {found}")]
    Contract {
        /// Which end of the model.
        side: Side,
        /// The tensor's name.
        tensor: String,
        /// What was expected.
        expected: String,
        /// What the graph has.
        found: String,
    },
    /// Pre- or post-processing that does not fit the tensors.
    #[error("{what} of `{tensor}` does not fit the model: {detail}")]
    Declaration {
        /// Which section of the manifest.
        what: &'static str,
        /// The tensor it speaks of.
        tensor: String,
        /// Why it does not fit.
        detail: String,
    },
    /// Golden samples beside the model that cannot be read.
    #[error("cannot use the golden samples in `{path}`")]
    Golden {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: Cause,
    },
    /// The engine broke off. The file is at fault, not the agent: nothing else was touched.
    #[error("the engine panicked on `{path}`: {message}")]
    Panic {
        /// The file.
        path: PathBuf,
        /// The panic's message.
        message: String,
    },
}

/// Why a request cannot be answered, by its sender's fault.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Too few or too many tensors.
    #[error("the model has {expected} inputs, the request {found}")]
    Count {
        /// Inputs of the model.
        expected: usize,
        /// Tensors sent.
        found: usize,
    },
    /// Wrong element type, rank or size.
    #[error("input `{input}`: expected {expected}, found {found}")]
    Tensor {
        /// The input's name.
        input: String,
        /// Type and shape of the model's input.
        expected: String,
        /// Type and shape sent.
        found: String,
    },
    /// A shape that its bytes do not fill, or whose product overflows.
    #[error("input `{input}` is damaged")]
    Damaged {
        /// The input's name.
        input: String,
        /// What is wrong.
        #[source]
        source: TensorError,
    },
    /// One symbol with two sizes.
    #[error("`{symbol}` is {first} in `{first_input}` and {second} in `{second_input}`; it must be the same")]
    Symbol {
        /// The symbol of the contract.
        symbol: String,
        /// Where it was met first.
        first_input: String,
        /// Its size there.
        first: usize,
        /// Where it was met again.
        second_input: String,
        /// Its size there.
        second: usize,
    },
    /// Shapes that the contract allows and the graph does not, such as a side smaller than a kernel.
    #[error("the model cannot take inputs of the shapes {shapes}")]
    Shapes {
        /// The shapes sent.
        shapes: String,
        /// The engine's reason.
        #[source]
        source: Cause,
    },
    /// An index, or a number of places, that the graph cannot take: a token that its table does not hold.
    #[error("a value of the request is out of range: node `{node}` takes {least} to {most} here, found {found}")]
    Value {
        /// The node that was to take it.
        node: String,
        /// The least that it takes.
        least: i64,
        /// The most that it takes; less than `least` where it takes none.
        most: i64,
        /// What came.
        found: i64,
    },
    /// Another kind of request than the bundle declares.
    #[error("this model takes {takes}, the request is {found}")]
    Kind {
        /// What the bundle's pre-processing takes.
        takes: &'static str,
        /// What was sent.
        found: &'static str,
    },
    /// No kind of image that is read.
    #[error("the image is neither JPEG, PNG, WebP nor BMP")]
    ImageFormat,
    /// More pixels or bytes than allowed.
    #[error(
        "the image has {width}x{height} pixels, at most {max_mpixel} million and {max_mib} MiB decoded are allowed"
    )]
    ImageSize {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit on pixels, millions.
        max_mpixel: u64,
        /// The limit on decoded bytes, MiB.
        max_mib: u64,
    },
    /// A damaged image.
    #[error("cannot decode the image")]
    Image(#[source] Cause),
    /// A body that should be UTF-8 and is not.
    #[error("the text is not UTF-8 from byte {at} on")]
    Text {
        /// How many bytes are.
        at: usize,
    },
    /// JSON that is not an object of features, or a list of such.
    #[error("expected a JSON object of features or a list of them, found {found}")]
    NotFeatures {
        /// The kind of JSON value found.
        found: &'static str,
    },
    /// A feature that must be there is not.
    #[error("feature `{feature}` is missing{}", row_text(*row))]
    Missing {
        /// The feature.
        feature: String,
        /// The row, from 0, where there are several.
        row: Option<usize>,
    },
    /// A feature that the model does not know; perhaps a slip of the pen.
    #[error("feature `{feature}` is not one of the model's{}{}", row_text(*row), nearest_text(nearest.as_deref()))]
    Unknown {
        /// The name sent.
        feature: String,
        /// The row, from 0, where there are several.
        row: Option<usize>,
        /// The most similar feature, where one is similar.
        nearest: Option<String>,
    },
    /// A feature that is not a number that its tensor can hold, or none of its categories.
    #[error("feature `{feature}`{}: expected {expected}, found {found}", row_text(*row))]
    Feature {
        /// The feature.
        feature: String,
        /// The row, from 0, where there are several.
        row: Option<usize>,
        /// What the tensor holds.
        expected: String,
        /// What was sent, shortened.
        found: String,
    },
    /// A decoder broke off on these bytes.
    #[error("the decoder panicked on this request: {0}")]
    Panic(String),
}

fn row_text(row: Option<usize>) -> String {
    row.map(|row| format!(" in row {row}")).unwrap_or_default()
}

fn nearest_text(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Why the model did not answer a sound request. [`InferError::Input`] alone is the caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The tensors are not what the contract says.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The engine stopped with an error.
    #[error("inference failed")]
    Run(#[source] Cause),
    /// The engine broke off; the next call starts afresh.
    #[error("inference panicked: {0}")]
    Panic(String),
    /// An output that is not what the contract says.
    #[error("output `{output}`: expected {expected}, found {found}")]
    Output {
        /// The output's name.
        output: String,
        /// What the contract says.
        expected: String,
        /// What came out.
        found: String,
    },
    /// Not-a-number in an output whose golden samples have none.
    #[error("output `{output}` holds NaN")]
    NanOutput {
        /// The output's name.
        output: String,
    },
}

impl InferError {
    /// Whether the sender of the request is to blame, and not the model.
    #[must_use]
    pub const fn is_callers_fault(&self) -> bool {
        matches!(self, Self::Input(_))
    }
}

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(300).collect()
}
