use super::*;
use fieldpost_shared::bundle::Dim;
use fieldpost_shared::bundle::chunk::ChunkRef;
use fieldpost_shared::bundle::manifest::Postprocess;
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::Digest;
use fieldpost_shared::time::SystemClock;
use fieldpost_shared::trust::envelope::verifies;
use std::sync::OnceLock;

const CREATED: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models")
}

#[derive(Debug, Default)]
struct Watcher {
    stages: Vec<(&'static str, usize)>,
    steps: usize,
    notes: Vec<String>,
}

impl Progress for Watcher {
    fn stage(&mut self, name: &'static str, total: usize) {
        self.stages.push((name, total));
    }
    fn step(&mut self) {
        self.steps += 1;
    }
    fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

fn publisher() -> SecretKey {
    SecretKey::from_seed(&[2; 32])
}

fn packed(dir: &Path) -> Result<(Bundle, Watcher), PackError> {
    let mut watcher = Watcher::default();
    let options = Options { keys: &[publisher()], created: Some(CREATED), clock: &SystemClock::new() };
    let bundle = pack(dir, &options, &mut watcher)?;
    Ok((bundle, watcher))
}

fn digits() -> &'static (Bundle, Watcher) {
    static DIGITS: OnceLock<(Bundle, Watcher)> = OnceLock::new();
    DIGITS.get_or_init(|| packed(&models().join("digits-1.0")).unwrap())
}

fn check_refused(dir: &Path, expected: &[&str]) -> PackError {
    let error = packed(dir).unwrap_err();
    let text = Chain(&error).to_string();
    for part in expected {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    error
}

/// A copy of a test model with a part of its `bundle.toml` replaced.
fn changed(model: &str, from: &str, to: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| std::fs::copy(from, to).map(drop).unwrap();
    for entry in std::fs::read_dir(models().join(model)).unwrap().map(Result::unwrap) {
        let target = dir.path().join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            for inner in std::fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
                copy(&inner.path(), &target.join(inner.file_name()));
            }
        } else {
            copy(&entry.path(), &target);
        }
    }
    let text = std::fs::read_to_string(dir.path().join(SOURCE_FILE)).unwrap();
    assert!(text.contains(from), "`{from}` is not in the bundle.toml of {model}");
    write_atomic(dir.path(), SOURCE_FILE, text.replace(from, to).as_bytes()).unwrap();
    dir
}

#[test]
fn digits_become_a_signed_bundle() {
    let (bundle, watcher) = digits();
    let manifest = &bundle.manifest;
    assert_eq!((manifest.name.as_str(), manifest.version.to_string().as_str()), ("digits", "1.0.0"));
    assert_eq!(manifest.labels.len(), 10);
    assert!(verifies(Kind::Manifest, &bundle.manifest_bytes, &bundle.signatures[0], &publisher().public()));
    assert_eq!(
        watcher.stages.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["loading the model", "answering golden samples", "measuring", "running the reference data"]
    );
    assert_eq!(watcher.steps, watcher.stages.iter().map(|(_, total)| total).sum::<usize>());
    assert!(watcher.notes.is_empty(), "{:?}", watcher.notes);
}

#[test]
fn a_classical_model_is_packed_as_it_was_exported() {
    let (bundle, _) = packed(&models().join("iris-1.0")).unwrap();
    let manifest = &bundle.manifest;
    let outputs: Vec<&str> = manifest.outputs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(outputs, ["label", "probabilities"]);
    // The names of the classes are read from the graph.
    assert_eq!(manifest.labels, ["setosa", "versicolor", "virginica"]);
    // The labels are texts, and the scores were found without being named.
    let Postprocess::Classification(classification) = &manifest.postprocess else { panic!() };
    assert_eq!((classification.tensor.as_str(), classification.top_k), ("probabilities", 3));
    let baseline = manifest.baseline.clone().unwrap();
    assert_eq!(baseline.n, 75);
}

#[test]
fn a_classical_model_answers_records_with_label_and_score() {
    let dir = models().join("iris-1.0");
    let (bundle, _) = packed(&dir).unwrap();
    let release = bundle.manifest.release(&bundle.manifest_bytes);
    let model = LoadedModel::load(&dir, Arc::new(bundle.manifest), release).unwrap();
    let records = serde_json::json!([
        { "sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2 },
        { "sepal_length": 6.7, "sepal_width": 3.1, "petal_length": 5.6, "petal_width": 2.4 },
    ]);
    let outputs = model.infer(&model.prepare(&runtime::PredictInput::Json(&records)).unwrap().tensors).unwrap();
    let named: Vec<String> = model
        .answer(&outputs, None)
        .unwrap()
        .into_iter()
        .map(|answer| match answer {
            runtime::Answer::Classification { label, score, .. } if score > 0.5 => label.unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(named, ["setosa", "virginica"]);
    // What people are told is what the model's own label says.
    let own: Vec<&[u8]> = outputs.first().unwrap().texts().collect();
    assert_eq!(own, [b"setosa".as_slice(), b"virginica"]);
}

#[test]
fn the_baseline_tells_what_the_model_answers() {
    let baseline = digits().0.manifest.baseline.clone().unwrap();
    assert_eq!(baseline.n, 300);
    let classes = baseline.output.classes.unwrap();
    // The reference holds thirty of each digit, and the model is right about 95 % of the time.
    assert_eq!((classes.classes(), classes.total(), classes.outside()), (10, 300, 0));
    assert!(classes.counts().iter().all(|count| (20..=40).contains(count)), "{:?}", classes.counts());
    assert!(baseline.output.confidence.unwrap().mean().unwrap() > 0.8);
    let brightness = baseline.inputs.iter().find(|input| input.name == "image.brightness").unwrap();
    assert_eq!(brightness.histogram.total(), 300);
}

#[test]
fn golden_samples_hold_the_request_and_the_right_answer() {
    let (bundle, _) = digits();
    let file = bundle.manifest.file(FileRole::Golden).unwrap();
    let golden = GoldenSet::decode(&bundle.file(file).unwrap()).unwrap();
    assert_eq!(golden.samples.len(), 8);
    let right = golden.samples.iter().filter(|sample| {
        let logits = sample.outputs[0].to_f64();
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        assert!(sample.request.as_ref().unwrap().starts_with(b"\x89PNG"));
        sample.name == format!("digit-{best}.png")
    });
    assert!(right.count() >= 7);
}

#[test]
fn the_file_reads_back_and_is_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let write_one = |name: &str, bundle: &Bundle| {
        let path = dir.path().join(name);
        write(bundle, &path).unwrap();
        std::fs::read(path).unwrap()
    };
    let first = write_one("a.fieldpost", &digits().0);
    let again = write_one("b.fieldpost", &packed(&models().join("digits-1.0")).unwrap().0);
    assert!(first == again, "two runs gave different bytes");
    let read = Bundle::read(first.as_slice()).unwrap();
    let same = (read.manifest_bytes == digits().0.manifest_bytes, read.blobs == digits().0.blobs);
    assert_eq!((same, read.signatures), ((true, true), digits().0.signatures.clone()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "a temporary file is left");
}

#[test]
fn without_a_stated_time_the_cost_is_measured() {
    let mut watcher = Watcher::default();
    let options = Options { keys: &[], created: None, clock: &SystemClock::new() };
    let bundle = pack(&models().join("digits-1.0"), &options, &mut watcher).unwrap();
    let measured = &bundle.manifest.measured;
    assert_eq!(measured.arch, std::env::consts::ARCH);
    assert!(measured.p50_us > 0.0 && measured.p95_us >= measured.p50_us && measured.load_ms > 0.0, "{measured:?}");
    assert!(bundle.signatures.is_empty() && bundle.manifest.created > CREATED);
}

#[test]
fn a_table_of_named_features_becomes_a_bundle() {
    let (bundle, watcher) = packed(&models().join("cancer-1.0")).unwrap();
    let manifest = &bundle.manifest;
    let Preprocess::Tabular(tabular) = &manifest.preprocess else { panic!("{:?}", manifest.preprocess) };
    // The header of the CSV names them; bundle.toml does not.
    assert_eq!((tabular.features.len(), tabular.features[0].as_str()), (30, "mean_radius"));
    let baseline = manifest.baseline.as_ref().unwrap();
    assert_eq!((baseline.n, baseline.inputs.len(), baseline.inputs[0].name.as_str()), (200, 30, "mean_radius"));
    assert!(watcher.notes.is_empty(), "{:?}", watcher.notes);
}

#[test]
fn several_tensors_in_and_out_become_a_bundle() {
    let (bundle, watcher) = packed(&models().join("bad/int-io")).unwrap();
    assert_eq!((bundle.manifest.inputs.len(), bundle.manifest.outputs.len()), (3, 3));
    assert!(watcher.notes[0].contains("no [reference] data"), "{:?}", watcher.notes);
    let (bundle, _) = packed(&models().join("bad/stateless-two-heads")).unwrap();
    let Postprocess::Classification(output) = &bundle.manifest.postprocess else { panic!("a classification") };
    assert_eq!((output.tensor.as_str(), output.top_k), ("logits", 3));
}

#[test]
fn what_bundle_toml_leaves_out_follows_from_the_model() {
    let said = "tensor = \"image\"\nchannels = \"gray\"\nlayout = \"nchw\"\nwidth = 8\nheight = 8\nresize = \"bilinear\"\nscale = 0.00392156862745098 # 1/255\n";
    let dir = changed("digits-1.0", said, "");
    let (bundle, _) = packed(dir.path()).unwrap();
    assert_eq!(bundle.manifest.preprocess, digits().0.manifest.preprocess);
    assert!(matches!(bundle.manifest.inputs[0].shape[0], Dim::Symbol(_)));
}

#[test]
fn an_operator_that_cannot_run_is_named_with_its_node() {
    check_refused(&models().join("bad/unsupported-operator"), &["cannot run on a device", "stft_7", "STFT"]);
}

#[test]
fn a_model_that_answers_nan_is_refused() {
    let error = check_refused(&models().join("bad/nan-output"), &["`score`", "NaN", "row 0"]);
    assert!(error.hint().is_some());
}

#[test]
fn more_features_than_the_model_takes_are_refused() {
    check_refused(&models().join("bad/wrong-shape"), &["the number of features is 5", "[N,4]"]);
}

#[test]
fn a_truncated_model_is_refused() {
    check_refused(&models().join("bad/truncated"), &["model.onnx", "not a whole ONNX model"]);
}

#[test]
fn logits_sold_as_probabilities_are_refused() {
    let dir = changed("digits-1.0", "activation = \"softmax\"", "");
    let error = check_refused(dir.path(), &["are no probabilities"]);
    assert!(error.hint().unwrap().contains("softmax"));
}

#[test]
fn labels_that_do_not_match_the_classes_are_refused() {
    let dir = changed("digits-1.0", "labels = \"labels.txt\"", "labels = [\"a\", \"b\"]");
    check_refused(dir.path(), &["2 labels for the 10 classes of `logits`"]);
}

#[test]
fn a_mistake_in_bundle_toml_is_told_with_its_line() {
    let dir = changed("digits-1.0", "[budgets]", "[budgets]\nlatency = 5");
    check_refused(dir.path(), &["bundle.toml", "line", "unknown field `latency`"]);
    let dir = changed("digits-1.0", "error_rate = 0.01", "error_rate = 1.01");
    check_refused(dir.path(), &["error_rate", "0..=1"]);
    let dir = changed("digits-1.1", "digits@1.0.0", "digits");
    check_refused(dir.path(), &["parent `digits` is not of the form"]);
    let dir = changed("digits-1.0", "model = \"model.onnx\"", "model = \"../model.onnx\"");
    check_refused(dir.path(), &["must be a plain path below the folder"]);
}

#[test]
fn files_that_are_not_there_are_named() {
    let empty = tempfile::tempdir().unwrap();
    let error = check_refused(empty.path(), &["bundle.toml"]);
    assert!(error.hint().unwrap().contains("bundle new"));
    let dir = changed("digits-1.0", "reference.npy", "absent.npy");
    check_refused(dir.path(), &["absent.npy"]);
    let dir = changed("digits-1.0", "model = \"model.onnx\"", "model = \"absent.onnx\"");
    check_refused(dir.path(), &["absent.onnx"]);
}

#[test]
fn a_bundle_without_anything_to_check_it_by_is_refused() {
    let dir = changed("bad/int-io", "[golden]\nsamples = \"samples\"", "");
    check_refused(dir.path(), &["neither [golden] samples nor [reference] data"]);
}

#[test]
fn a_budget_that_this_machine_breaks_is_noted() {
    let dir = changed("digits-1.0", "p95_latency_ms = 50.0", "p95_latency_ms = 0.000001");
    let (_, watcher) = packed(dir.path()).unwrap();
    assert!(watcher.notes[0].contains("over its budget of 0.000001 ms"), "{:?}", watcher.notes);
}

#[test]
fn a_model_whose_chunk_list_fits_no_message_is_refused_with_the_numbers() {
    let of_chunks = |count: u32| {
        let chunks: Vec<ChunkRef> =
            (0..count).map(|n| ChunkRef { sha256: Digest::of(&n.to_be_bytes()), size: 64 << 10 }).collect();
        let mut manifest = testing::manifest();
        manifest.files[0].size = chunks.iter().map(|chunk| chunk.size).sum();
        manifest.files[0].chunks = chunks;
        check_message(&manifest, &manifest.to_bytes().unwrap())
    };
    assert!(of_chunks(2_500).is_ok(), "156 MiB travel");
    let error = of_chunks(4_000).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("250 MiB in 4000 chunks") && text.contains("at most 122880"), "{text}");
    assert!(error.hint().unwrap().contains("180 MB"));
}
