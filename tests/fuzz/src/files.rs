//! What a bundle is made of.

use fieldpost_shared::bundle::archive::Bundle;
use fieldpost_shared::bundle::chunk::{MAX_CHUNK_BYTES, unframe};
use fieldpost_shared::bundle::{Dtype, GoldenSet, Manifest, Tensor};
use fieldpost_shared::id::Digest;

pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        drop((manifest.chunks(), manifest.total_bytes()));
        let again = manifest.to_bytes().ok().map(|bytes| Manifest::parse(&bytes).is_ok());
        assert_ne!(again, Some(false), "what is written can be read");
    }
}

pub fn bundle(data: &[u8]) {
    if let Ok(bundle) = Bundle::read(data) {
        let mut written = Vec::new();
        bundle.write(&mut written).expect("memory takes it");
        assert_eq!(Bundle::read(written.as_slice()).ok(), Some(bundle));
    }
}

/// The first 32 bytes are the name; with zeroes there, the name is made to fit, so that the end of the way is reached.
pub fn chunk(data: &[u8]) {
    let Some((name, frame)) = data.split_first_chunk::<32>() else { return };
    let stated = Digest::from_bytes(*name);
    let fitting = frame.split_first().map(|(_, content)| Digest::of(content));
    let name = if *name == [0; 32] { fitting.unwrap_or(stated) } else { stated };
    if let Ok(content) = unframe(frame, name, MAX_CHUNK_BYTES) {
        assert!(content.len() <= MAX_CHUNK_BYTES && Digest::of(&content) == name);
    }
}

pub fn golden(data: &[u8]) {
    if let Ok(set) = GoldenSet::decode(data) {
        let encoded = set.encode().expect("what was read can be written");
        assert!(GoldenSet::decode(&encoded).is_ok());
    }
}

/// Byte 0 is the type, byte 1 the rank, then eight bytes an axis, then the data.
pub fn tensor(data: &[u8]) {
    let [dtype, rank, rest @ ..] = data else { return };
    let Some(dtype) = DTYPES.get(usize::from(*dtype) % DTYPES.len()) else { return };
    let (mut shape, mut rest) = (Vec::new(), rest);
    for _ in 0..rank % 9 {
        let Some((axis, more)) = rest.split_first_chunk::<8>() else { break };
        shape.push(usize::try_from(u64::from_le_bytes(*axis)).unwrap_or(usize::MAX));
        rest = more;
    }
    if let Ok(tensor) = Tensor::new(*dtype, shape, rest.to_vec()) {
        assert!(tensor.check().is_ok());
        drop(tensor.to_f64());
    }
}

const DTYPES: &[Dtype] = &[Dtype::Bool, Dtype::Int8, Dtype::Int64, Dtype::Fp32, Dtype::Fp64];
