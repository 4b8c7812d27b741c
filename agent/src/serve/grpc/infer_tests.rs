use super::*;
use crate::monitor::testing;
use fieldpost_shared::bundle::{Dim, TensorSpec};
use std::time::Duration;

/// A field of bytes.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, bytes);
    out
}

/// An input as a message: shape and contents are given packed.
fn input(name: &str, datatype: &str, shape: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut message = [field(1, name.as_bytes()), field(2, datatype.as_bytes()), field(3, shape)].concat();
    if !contents.is_empty() {
        message.extend(field(5, contents));
    }
    field(5, &message)
}

fn manifest(dtype: Dtype) -> Manifest {
    let mut manifest = testing::manifest();
    let spec = |name: &str| TensorSpec { name: name.to_owned(), dtype, shape: vec![Dim::Symbol("N".to_owned())] };
    (manifest.inputs, manifest.outputs) = (vec![spec("x")], vec![spec("y")]);
    manifest
}

fn parsed(dtype: Dtype, message: &[u8]) -> Result<InferRequest, String> {
    parse(message, &manifest(dtype)).map_err(|error| {
        assert_eq!(error.status, 400);
        error.message
    })
}

#[track_caller]
fn refused(dtype: Dtype, message: &[u8], part: &str) {
    let error = parsed(dtype, message).unwrap_err();
    assert!(error.contains(part), "{error}");
}

/// Typed contents of two elements, and the bytes that they are.
#[track_caller]
fn reads(dtype: Dtype, contents: &[u8], expected: &[u8]) {
    let request = parsed(dtype, &input("x", dtype.as_str(), &[2], contents)).unwrap();
    assert_eq!(request.inputs, [Tensor::new(dtype, vec![2], expected.to_vec()).unwrap()]);
    assert_eq!(request.wanted, [Wanted { output: 0, binary: false, classes: None }]);
}

#[test]
fn typed_contents_of_each_type_are_read() {
    let minus_one = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let signed = [&[7][..], &minus_one].concat();
    reads(Dtype::Bool, &field(1, &[1, 0]), &[1, 0]);
    reads(Dtype::Int8, &field(2, &signed), &[7, 0xff]);
    reads(Dtype::Int16, &field(2, &signed), &[7, 0, 0xff, 0xff]);
    reads(Dtype::Int32, &field(2, &signed), &[7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    reads(Dtype::Int64, &field(3, &signed), &[7, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    reads(Dtype::Uint8, &field(4, &[1, 0xff, 0x01]), &[1, 255]);
    reads(Dtype::Uint16, &field(4, &[1, 2]), &[1, 0, 2, 0]);
    reads(Dtype::Uint32, &field(4, &[1, 2]), &[1, 0, 0, 0, 2, 0, 0, 0]);
    reads(Dtype::Fp32, &field(6, &[0; 8]), &[0; 8]);
    reads(Dtype::Fp64, &field(7, &[0; 16]), &[0; 16]);
    reads(Dtype::Bytes, &[field(8, b"ab"), field(8, b"")].concat(), b"\x02\0\0\0ab\0\0\0\0");
    // Not packed, as proto2 has it.
    reads(Dtype::Bool, &[0x08, 1, 0x08, 0], &[1, 0]);
}

#[test]
fn raw_contents_are_read_and_answered_raw() {
    let message = [input("x", "FP32", &[2], &[]), field(7, &[0; 8]), field(3, b"id-7")].concat();
    let request = parsed(Dtype::Fp32, &message).unwrap();
    assert_eq!(request.inputs, [Tensor::from_f32(vec![2], &[0.0; 2]).unwrap()]);
    assert_eq!(
        (request.id.as_deref(), request.wanted),
        (Some("id-7"), vec![Wanted { output: 0, binary: true, classes: None }])
    );
}

#[test]
fn wrong_messages_are_refused_with_the_reason() {
    let with = |shape: &[u8], contents: &[u8]| input("x", "FP32", shape, contents);
    refused(Dtype::Fp32, b"\x2a\x09", "no ModelInferRequest");
    refused(Dtype::Fp32, &[with(&[2], &[]), field(7, &[]), field(7, &[])].concat(), "2 `raw_input_contents` for 1");
    refused(Dtype::Fp32, &[with(&[2], &field(6, &[0; 8])), field(7, &[0; 8])].concat(), "both `contents` and");
    refused(Dtype::Fp32, &[with(&[2], &[]), field(7, &[0; 7])].concat(), "needs 8 bytes, got 7");
    refused(Dtype::Fp32, &[with(&[2], &[]), field(7, &[0; 9])].concat(), "needs 8 bytes, got 9");
    refused(Dtype::Fp32, &with(&[2], &field(6, &[0; 4])), "has 2 elements, `fp32_contents` 1");
    refused(Dtype::Fp32, &with(&[2], &field(6, &[0; 12])), "more than 2 elements");
    refused(Dtype::Fp32, &with(&[2], &field(6, &[0; 7])), "no ModelInferRequest");
    refused(Dtype::Fp32, &with(&[2], &field(7, &[0; 16])), "is sent in `fp32_contents`");
    refused(Dtype::Uint8, &input("x", "UINT8", &[1], &field(4, &[0x80, 0x02])), "does not fit UINT8");
    refused(Dtype::Fp16, &input("x", "FP16", &[1], &field(6, &[0; 4])), "FP16 has no typed contents");
    let negative = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    refused(Dtype::Fp32, &with(&negative, &[]), "an axis of its shape is negative: -1");
    refused(Dtype::Fp32, &with(&[0xff; 3], &[]), "no ModelInferRequest");
    refused(Dtype::Fp32, &with(&[1; 65], &[]), "more than 64 axes");
    refused(Dtype::Fp32, &field(5, b"").repeat(1_025), "more than 1024 inputs");
    refused(Dtype::Fp32, &input("z", "FP32", &[1], &[]), "input `x`: it is missing");
    let asks = |output: Vec<u8>| [with(&[1], &field(6, &[0; 4])), field(6, &output)].concat();
    refused(Dtype::Fp32, &asks(field(1, b"z")), "no output `z`");
    let asks_with = |entry: &[Vec<u8>]| asks([field(1, b"y"), field(2, &entry.concat())].concat());
    refused(Dtype::Fp32, &asks_with(&[field(1, b"classification")]), "`classification` must be a whole number");
    refused(Dtype::Fp32, &asks_with(&[field(1, b"shared_memory_region")]), "output `y`: shared memory is not served");
    let shared = [field(1, b"x"), field(2, b"FP32"), field(3, &[1]), field(4, &field(1, b"shared_memory_region"))];
    refused(Dtype::Fp32, &field(5, &shared.concat()), "shared memory is not served");
}

#[test]
fn classes_may_be_asked_for_in_an_outputs_stead() {
    let count = [field(1, b"classification"), field(2, &[0x10, 2])].concat();
    let output = [field(1, b"y"), field(2, &count)].concat();
    let halves = [input("x", "FP16", &[1], &[]), field(6, &output), field(7, &[0; 2])].concat();
    let wanted = parsed(Dtype::Fp16, &halves).unwrap().wanted;
    let two = NonZeroUsize::new(2);
    assert_eq!(wanted, [Wanted { output: 0, binary: true, classes: two }]);
    // Texts have a typed form, whatever they are made of.
    let wanted = [Wanted { output: 0, binary: false, classes: two }];
    let outputs = [Tensor::from_f32(vec![2], &[0.5, 2.0]).unwrap()];
    let answer = write(&testing::release("1.0.0"), &manifest(Dtype::Fp32), "7", &wanted, &outputs).bytes;
    let output = ModelInferResponse::decode(answer.as_slice()).unwrap().outputs.remove(0);
    assert_eq!((output.datatype.as_str(), output.shape), ("BYTES", vec![2, 1]));
    assert_eq!(output.contents.unwrap().bytes_contents, [b"0.5:0".to_vec(), b"2:0".to_vec()]);
}

#[test]
fn a_timeout_is_read_and_a_sequence_refused() {
    let with = |key: &[u8], value: &[u8]| {
        let entry = field(4, &[field(1, key), field(2, value)].concat());
        [input("x", "FP32", &[1], &field(6, &[0; 4])), entry].concat()
    };
    let timeout = |value: &[u8]| parsed(Dtype::Fp32, &with(b"timeout", value)).unwrap().timeout;
    assert_eq!((timeout(&[0x10, 7]), timeout(&[0x28, 0])), (Some(Duration::from_micros(7)), None));
    refused(Dtype::Fp32, &with(b"timeout", b"\x1a\x015"), "`timeout` must be a whole number");
    for (key, value) in
        [(&b"sequence_id"[..], &[0x10, 7][..]), (b"sequence_id", b"\x1a\x01a"), (b"sequence_end", &[8, 1])]
    {
        refused(Dtype::Fp32, &with(key, value), "sequences are not served");
    }
    for (key, value) in [(&b"sequence_id"[..], &[0x10, 0][..]), (b"sequence_start", &[8, 0]), (b"priority", &[0x28, 1])]
    {
        assert!(parsed(Dtype::Fp32, &with(key, value)).is_ok());
    }
}

#[test]
fn every_torn_message_is_an_error_and_no_crash() {
    let message = [input("x", "FP32", &[2], &field(6, &[0; 8])), field(6, &field(1, b"y")), field(3, b"7")].concat();
    assert!(parsed(Dtype::Fp32, &message).is_ok());
    for end in 0..message.len() {
        drop(parsed(Dtype::Fp32, &message[..end]));
    }
}

#[test]
fn an_answer_is_typed_or_raw() {
    let outputs = [Tensor::from_f32(vec![2], &[0.5, 2.0]).unwrap()];
    let (release, manifest) = (testing::release("1.0.0"), manifest(Dtype::Fp32));
    let answer =
        |binary| write(&release, &manifest, "7", &[Wanted { output: 0, binary, classes: None }], &outputs).bytes;
    let typed = ModelInferResponse::decode(answer(false).as_slice()).unwrap();
    assert_eq!((typed.model_name.as_str(), typed.model_version.as_str(), typed.id.as_str()), ("digits", "1.0.0", "7"));
    assert_eq!(typed.outputs[0].contents.as_ref().unwrap().fp32_contents, [0.5, 2.0]);
    let raw = answer(true);
    let tail = field(RAW_OUTPUT_CONTENTS, &outputs[0].data);
    assert!(raw.ends_with(&tail));
    assert_eq!(ModelInferResponse::decode(raw.as_slice()).unwrap().outputs[0].contents, None);
}
