//! Writes small ONNX files (protobuf by hand), for graphs that `tests/models` does not hold.

use fieldpost_shared::bundle::Dtype;

/// A graph in the making; names of nodes, tensors and axes are the caller's.
#[derive(Default)]
pub(crate) struct Onnx {
    graph: Vec<u8>,
}

/// ONNX `TensorProto.DataType`.
pub(crate) const BFLOAT16: u64 = 16;

pub(crate) const fn data_type(dtype: Dtype) -> u64 {
    match dtype {
        Dtype::Fp32 => 1,
        Dtype::Uint8 => 2,
        Dtype::Int8 => 3,
        Dtype::Int16 => 5,
        Dtype::Int32 => 6,
        Dtype::Int64 => 7,
        Dtype::Bool => 9,
        Dtype::Fp64 => 11,
        Dtype::Uint16 => 4,
        Dtype::Bytes => 8,
        Dtype::Fp16 => 10,
        Dtype::Uint32 => 12,
        Dtype::Uint64 => 13,
    }
}

/// An attribute of a node.
pub(crate) enum Attribute<'a> {
    Float(&'a str, f32),
    Int(&'a str, u64),
    Ints(&'a str, &'a [u64]),
    Text(&'a str, &'a str),
    Texts(&'a str, &'a [&'a str]),
    Graph(&'a str, Onnx),
}

impl Onnx {
    /// A node; an empty `name` is none. `op` may be `domain:Op`.
    pub(crate) fn node(mut self, name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        self.graph.extend(message(1, &node(name, op, inputs, outputs, &[])));
        self
    }

    pub(crate) fn node_with(
        mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[Attribute<'_>],
    ) -> Self {
        self.graph.extend(message(1, &node(name, op, inputs, outputs, attributes)));
        self
    }

    /// A weight in the file.
    pub(crate) fn weight(mut self, name: &str, shape: &[u64], values: &[f32]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.extend(message(5, &[tensor(name, data_type(Dtype::Fp32), shape), message(9, &raw)].concat()));
        self
    }

    /// Integers of 64 bits in the file.
    pub(crate) fn integers(mut self, name: &str, shape: &[u64], values: &[i64]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.extend(message(5, &[tensor(name, data_type(Dtype::Int64), shape), message(9, &raw)].concat()));
        self
    }

    /// A weight of float32 in another file, from an offset on.
    pub(crate) fn external(mut self, name: &str, shape: &[u64], location: &str, offset: usize) -> Self {
        let entry = |key: &str, value: &str| message(13, &[text(1, key), text(2, value)].concat());
        let external = [entry("location", location), entry("offset", &offset.to_string()), int(14, 1)].concat();
        self.graph.extend(message(5, &[tensor(name, data_type(Dtype::Fp32), shape), external].concat()));
        self
    }

    pub(crate) fn input(mut self, name: &str, data_type: u64, shape: &[&str]) -> Self {
        self.graph.extend(message(11, &value(name, data_type, Some(shape))));
        self
    }

    pub(crate) fn input_without_shape(mut self, name: &str, data_type: u64) -> Self {
        self.graph.extend(message(11, &value(name, data_type, None)));
        self
    }

    pub(crate) fn output(mut self, name: &str, data_type: u64, shape: &[&str]) -> Self {
        self.graph.extend(message(12, &value(name, data_type, Some(shape))));
        self
    }

    /// The file, opset 17.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_of(17)
    }

    pub(crate) fn bytes_of(&self, opset: u64) -> Vec<u8> {
        let graph = message(7, &[self.graph.clone(), text(2, "g")].concat());
        [int(1, 8), graph, message(8, &int(2, opset))].concat()
    }
}

fn node(name: &str, op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Attribute<'_>]) -> Vec<u8> {
    let (domain, op) = op.split_once(':').unwrap_or(("", op));
    let mut node = Vec::new();
    // An empty name is an optional one left out; it must keep its place.
    inputs.iter().for_each(|input| node.extend(message(1, input.as_bytes())));
    outputs.iter().for_each(|output| node.extend(message(2, output.as_bytes())));
    node.extend([text(3, name), text(4, op), text(7, domain)].concat());
    for attribute in attributes {
        let bytes = match attribute {
            Attribute::Float(name, value) => {
                [text(1, name), varint(2 << 3 | 5), value.to_le_bytes().to_vec(), int(20, 1)].concat()
            }
            Attribute::Text(name, value) => [text(1, name), text(4, value), int(20, 3)].concat(),
            Attribute::Texts(name, values) => {
                let values = values.iter().flat_map(|value| text(9, value)).collect();
                [text(1, name), values, int(20, 8)].concat()
            }
            Attribute::Int(name, value) => [text(1, name), int(3, *value), int(20, 2)].concat(),
            Attribute::Ints(name, values) => {
                let values = values.iter().flat_map(|value| int(8, *value)).collect();
                [text(1, name), values, int(20, 7)].concat()
            }
            Attribute::Graph(name, graph) => [text(1, name), message(6, &graph.graph), int(20, 5)].concat(),
        };
        node.extend(message(5, &bytes));
    }
    node
}

fn tensor(name: &str, data_type: u64, shape: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|size| int(1, *size)).collect();
    [dims, int(2, data_type), text(8, name)].concat()
}

/// Axes are sizes, symbols, or nothing for an axis without a name.
fn value(name: &str, data_type: u64, shape: Option<&[&str]>) -> Vec<u8> {
    let dim = |axis: &&str| match axis.parse() {
        Ok(size) => message(1, &int(1, size)),
        Err(_) if axis.is_empty() => message(1, &[]),
        Err(_) => message(1, &text(2, axis)),
    };
    let shape = shape.map(|shape| message(2, &shape.iter().flat_map(dim).collect::<Vec<u8>>()));
    let tensor = [int(1, data_type), shape.unwrap_or_default()].concat();
    [text(1, name), message(2, &message(1, &tensor))].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

fn int(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn message(field: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(u64::try_from(bytes.len()).unwrap()), bytes.to_vec()].concat()
}

fn text(field: u64, text: &str) -> Vec<u8> {
    if text.is_empty() { Vec::new() } else { message(field, text.as_bytes()) }
}
