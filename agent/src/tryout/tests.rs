use super::open::{Signatures, open};
use super::{Believed, Order, Output, Work, once};
use crate::runtime::fixtures::{digits_manifest, f32s, models};
use fieldpost_shared::bundle::archive::Bundle;
use fieldpost_shared::bundle::chunk::{ChunkRef, MAX_CHUNK_BYTES};
use fieldpost_shared::bundle::manifest::FileRole;
use fieldpost_shared::bundle::{FileEntry, GoldenSample, GoldenSet, Manifest};
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::id::Digest;
use fieldpost_shared::time::SystemClock;
use fieldpost_shared::trust::SecretKey;
use fieldpost_shared::trust::envelope::{Kind, sign};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// A bundle with uncompressed frames.
fn bundle(mut manifest: Manifest, contents: &[(&str, FileRole, Vec<u8>)]) -> Bundle {
    let mut blobs = Vec::new();
    manifest.files.clear();
    for (path, role, content) in contents {
        let mut chunks = Vec::new();
        for piece in content.chunks(MAX_CHUNK_BYTES) {
            let sha256 = Digest::of(piece);
            chunks.push(ChunkRef { sha256, size: piece.len() as u64 });
            blobs.push((sha256, [&[0], piece].concat()));
        }
        let size = content.len() as u64;
        manifest.files.push(FileEntry { path: (*path).into(), role: *role, size, sha256: Digest::of(content), chunks });
    }
    let manifest_bytes = manifest.to_bytes().unwrap();
    let signatures = vec![sign(Kind::Manifest, &manifest_bytes, &key(7))];
    Bundle { manifest, manifest_bytes, signatures, blobs }
}

/// The digits model with one golden sample of zeros, whose first logit is `off` from the truth.
fn digits(off: f32) -> Bundle {
    let model = std::fs::read(models().join("digits-1.0/model.onnx")).unwrap();
    let loaded = crate::runtime::fixtures::load("digits-1.0", digits_manifest()).unwrap();
    let inputs = vec![f32s(&[1, 1, 8, 8], &[0.0; 64])];
    let mut logits = loaded.infer(&inputs).unwrap()[0].to_f64();
    logits[0] += f64::from(off);
    #[allow(clippy::cast_possible_truncation, reason = "they came from binary32")]
    let logits: Vec<f32> = logits.into_iter().map(|value| value as f32).collect();
    let sample = GoldenSample { name: "zeros".into(), request: None, inputs, outputs: vec![f32s(&[1, 10], &logits)] };
    let golden = GoldenSet { samples: vec![sample] }.encode().unwrap();
    bundle(digits_manifest(), &[("model.onnx", FileRole::Model, model), ("golden.bin", FileRole::Golden, golden)])
}

fn write(dir: &Path, bundle: &Bundle) -> PathBuf {
    let mut bytes = Vec::new();
    bundle.write(&mut bytes).unwrap();
    write_atomic(dir, "b.fieldpost", &bytes).unwrap();
    dir.join("b.fieldpost")
}

fn check(bundle: &Bundle, believed: &Believed) -> Result<Signatures, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), bundle);
    open(&path, believed, &SystemClock::new()).map(|opened| opened.signatures).map_err(|error| format!("{error:#}"))
}

fn refused(bundle: &Bundle, believed: &Believed, says: &str) {
    let error = check(bundle, believed).unwrap_err();
    assert!(error.contains(says), "{error}");
}

#[test]
fn without_keys_it_says_that_signatures_were_not_checked() {
    assert_eq!(check(&digits(0.0), &Believed::Anybody), Ok(Signatures::NotChecked { present: 1 }));
}

#[test]
fn with_keys_each_of_them_must_have_signed() {
    let keys = |seeds: &[u8]| Believed::Keys(seeds.iter().map(|seed| key(*seed).public()).collect());
    assert_eq!(check(&digits(0.0), &keys(&[7])), Ok(Signatures::GenuineByKeys { keys: 1 }));
    refused(&digits(0.0), &keys(&[7, 8]), "did not sign");
    let mut changed = digits(0.0);
    changed.manifest.note = "another".into();
    changed.manifest_bytes = changed.manifest.to_bytes().unwrap();
    refused(&changed, &keys(&[7]), "did not sign");
}

#[test]
fn a_root_that_cannot_be_read_is_no_permission() {
    refused(&digits(0.0), &Believed::Root("/nowhere/1.root.json".into()), "is not believed");
}

#[test]
fn a_wrong_golden_answer_fails_the_self_test() {
    refused(&digits(0.5), &Believed::Anybody, "does not pass its self-test here (self-test): golden sample `zeros`");
}

#[test]
fn a_chunk_that_is_not_what_its_name_says_is_refused() {
    let mut damaged = digits(0.0);
    if let Some(byte) = damaged.blobs[0].1.last_mut() {
        *byte ^= 1;
    }
    refused(&damaged, &Believed::Anybody, "is refused");
}

#[test]
fn a_bundle_for_another_machine_is_refused() {
    let mut foreign = digits(0.0);
    foreign.manifest.requirements.arch = vec!["pdp11".into()];
    foreign.manifest_bytes = foreign.manifest.to_bytes().unwrap();
    refused(&foreign, &Believed::Anybody, "needs arch pdp11");
}

#[test]
fn an_unpacked_bundle_is_the_same_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &digits(0.0));
    let folder = dir.path().join("unpacked");
    tar::Archive::new(std::fs::File::open(path).unwrap()).unpack(&folder).unwrap();
    assert_eq!(Bundle::read_dir(&folder).unwrap(), digits(0.0));
    assert!(open(&folder, &Believed::Anybody, &SystemClock::new()).is_ok());
    let blob = std::fs::read_dir(folder.join("blobs")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(blob).unwrap();
    let error = format!("{:#}", open(&folder, &Believed::Anybody, &SystemClock::new()).unwrap_err());
    assert!(error.contains("is missing from the bundle"), "{error}");
}

#[test]
fn the_folder_that_bundles_are_made_of_is_told_apart() {
    let error = open(&models().join("digits-1.0"), &Believed::Anybody, &SystemClock::new()).unwrap_err();
    assert!(format!("{error:#}").contains("fieldpost bundle pack"), "{error:#}");
}

#[test]
fn one_input_that_fails_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &digits(0.0));
    let zeros =
        format!(r#"{{"inputs":[{{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":{:?}}}]}}"#, [0; 64]);
    write_atomic(dir.path(), "zeros.json", zeros.as_bytes()).unwrap();
    let opened = open(&path, &Believed::Anybody, &SystemClock::new()).unwrap();
    let run = |inputs: &[PathBuf]| {
        let (clock, stop) = (SystemClock::new(), AtomicBool::new(false));
        once::run(&opened, inputs, Output::Json, &clock, &stop).map_err(|error| error.to_string())
    };
    assert_eq!(run(&[dir.path().join("zeros.json")]), Ok(()));
    let failed = run(&[dir.path().join("absent.json"), dir.path().join("zeros.json")]);
    assert_eq!(failed, Err("1 of 2 inputs were not answered".to_owned()));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = write(dir.path(), &digits(0.0));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = taken.local_addr().unwrap();
    let work = Work::Serve { http, grpc: None, threads: None };
    let order = Order { bundle, believed: Believed::Anybody, work, output: Output::Json };
    let error = super::run(order).await.unwrap_err().to_string();
    assert!(error.contains(&http.to_string()) && error.contains("another program has the port"), "{error}");
}
