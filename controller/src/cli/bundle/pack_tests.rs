use super::*;
use crate::cli::test_context;
use fieldpost_shared::trust::SecretKey;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models")
}

/// Packs a test model with a key of its own into a directory of its own.
async fn pack(model: &str) -> (Result<Exit, Failure>, tempfile::TempDir, Context) {
    let dir = tempfile::tempdir().unwrap();
    let key = SecretKey::from_seed(&[2; 32]).to_file("publisher");
    fieldpost_shared::durable::write_secret(dir.path(), "p.key", key.as_bytes()).unwrap();
    let context = test_context(dir.path());
    let args = PackArgs {
        dir: models().join(model),
        key: vec![dir.path().join("p.key")],
        out: Some(dir.path().to_owned()),
        created: Some(Timestamp::from_millis(1_700_000_000_000)),
        source_date_epoch: None,
    };
    (run(args, &context).await, dir, context)
}

/// What a person reads of a model that is refused.
async fn refused(model: &str) -> String {
    let (result, dir, _) = pack(model).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "a refused model leaves no file but the key");
    failure.to_string().replace(&*models().to_string_lossy(), "MODELS")
}

#[tokio::test]
async fn a_packed_bundle_is_described_and_believed() {
    let (result, dir, context) = pack("digits-1.0").await;
    assert_eq!(result.unwrap(), Exit::Done);
    let file = dir.path().join("digits-1.0.0.fieldpost");
    assert!(super::super::source::read(&file).is_ok());
    // The golden answers differ in their last bits from one processor to another, and the digest with them.
    let digest = super::super::source::load(&file.to_string_lossy(), &context).await.unwrap().digest.to_string();
    let printed = context.printed().replace(&*dir.path().to_string_lossy(), "DIR").replace(&digest, "DIGEST");
    insta::assert_snapshot!(printed);
}

#[tokio::test]
async fn an_operator_that_cannot_run() {
    insta::assert_snapshot!(refused("bad/unsupported-operator").await, @r#"
    error: cannot pack `MODELS/bad/unsupported-operator`
    cause: model.onnx: no device can run operator `STFT` of node `stft_7` as it is used here: Failed analyse for node #6 "stft_7" STFT: Infering facts: Applying rule inputs[0].rank == 3: Impossible to unify 2 with 3.
     hint: compute the spectrum before the model, or write it as a Conv with a fixed basis
    "#);
}

#[tokio::test]
async fn an_operator_that_nobody_knows() {
    insta::assert_snapshot!(refused("bad/unknown-operator").await, @r"
    error: cannot pack `MODELS/bad/unknown-operator`
    cause: model.onnx: no device can run operator `com.example.Fuse` of node `fuse_1`
     hint: export with another opset (9 to 18 are run best), run a graph simplifier, or replace it by operators that are supported
    ");
}

#[tokio::test]
async fn a_model_that_answers_nan() {
    insta::assert_snapshot!(refused("bad/nan-output").await, @r"
    error: cannot pack `MODELS/bad/nan-output`
    cause: the model has no good answer to `row 0`: output `score` holds NaN
     hint: a device would refuse it: look for log, sqrt or a division of unnormalised values before this output
    ");
}

#[tokio::test]
async fn more_features_than_the_model_takes() {
    insta::assert_snapshot!(refused("bad/wrong-shape").await, @r"
    error: cannot pack `MODELS/bad/wrong-shape`
    cause: bundle.toml does not fit the model: [preprocess] the number of features is 5, but `features` has the shape [N,4]
     hint: correct bundle.toml, or check that this is the right model file
    ");
}

#[tokio::test]
async fn a_truncated_model() {
    insta::assert_snapshot!(refused("bad/truncated").await, @r"
    error: cannot pack `MODELS/bad/truncated`
    cause: `MODELS/bad/truncated/model.onnx` is not a whole ONNX model: export it again, and compare its size and sha256 with the original: failed to decode Protobuf message: ModelProto.graph: buffer underflow
    ");
}

#[tokio::test]
async fn a_folder_without_a_description() {
    insta::assert_snapshot!(refused("stream").await, @r"
    error: cannot pack `MODELS/stream`
    cause: cannot read `MODELS/stream/bundle.toml`: No such file or directory (os error 2)
     hint: paths in bundle.toml are relative to its folder; `fieldpost bundle new DIR` writes a template
    ");
}

#[tokio::test]
async fn without_a_key_nothing_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let context = test_context(dir.path());
    let args =
        PackArgs { dir: models().join("digits-1.0"), key: vec![], out: None, created: None, source_date_epoch: None };
    let failure = run(args, &context).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    insta::assert_snapshot!(failure.to_string().replace(&*dir.path().to_string_lossy(), "DATA"), @r"
    error: there is no publisher key to sign the bundle with
    cause: `DATA/trust/publisher.key` is not there
     hint: name one with --key; `fieldpost key publisher` makes one, and `fieldpost init` a fleet that believes it
    ");
}

#[test]
fn times_are_rfc_3339_or_seconds() {
    assert_eq!(time("2023-11-14T22:13:20Z").unwrap(), epoch("1700000000").unwrap());
    assert!(time("yesterday").is_err() && epoch("-1").is_err());
}
