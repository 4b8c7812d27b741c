use super::*;
use fieldpost_shared::bundle::manifest::{Missing, TabularInput};
use fieldpost_shared::bundle::{Dim, Dtype, Manifest, TensorSpec};
use fieldpost_shared::durable::write_atomic;

fn table(text: &str) -> Result<Reference, ReferenceError> {
    let dir = tempfile::tempdir().unwrap();
    write_atomic(dir.path(), "a.csv", text.as_bytes()).unwrap();
    Reference::open(&dir.path().join("a.csv"))
}

fn tabular(features: &[&str]) -> Preprocess {
    let features = features.iter().map(|name| (*name).to_owned()).collect();
    Preprocess::Tabular(TabularInput { tensor: "x".into(), features, missing: Missing::Nan, ..TabularInput::default() })
}

fn inputs() -> [TensorSpec; 1] {
    [TensorSpec { name: "x".into(), dtype: Dtype::Fp32, shape: vec![Dim::Symbol("N".into()), Dim::Fixed(2)] }]
}

fn body(reference: &mut Reference, index: usize) -> Result<String, String> {
    let manifest =
        Manifest { preprocess: tabular(&["a", "b"]), inputs: inputs().to_vec(), ..super::super::testing::manifest() };
    let sample = reference.sample(index, Target { manifest: &manifest });
    sample.map(|s| String::from_utf8(s.request.body().unwrap()).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn records_are_read_by_name_and_passed_over() {
    let mut csv = table("b, a\n1,2\n\n3, \n5,NaN\n7,8\n").unwrap();
    assert_eq!((csv.rows(), csv.header().unwrap()), (4, &["b".to_owned(), "a".to_owned()][..]));
    assert_eq!(body(&mut csv, 0).unwrap(), r#"{"a":2,"b":1}"#);
    assert_eq!(body(&mut csv, 1).unwrap(), r#"{"b":3}"#);
    assert_eq!(body(&mut csv, 3).unwrap(), r#"{"a":8,"b":7}"#);
    assert!(body(&mut csv, 4).is_err());
}

#[test]
fn a_cell_without_a_number_is_named() {
    let error = body(&mut table("a,b\n1,2\n3,high\n").unwrap(), 1).unwrap_err();
    assert!(error.ends_with("holds `high` in row 1, column `b`, where a number belongs"), "{error}");
}

#[test]
fn an_empty_table_and_ragged_records_are_refused() {
    assert!(matches!(table("a,b\n"), Err(ReferenceError::Empty { .. })));
    assert!(matches!(table(""), Err(ReferenceError::Empty { .. })));
    assert!(matches!(table("a,b\n1,2,3\n"), Err(ReferenceError::Csv { .. })));
}

#[test]
fn a_folder_gives_its_files_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("b.json", r#"{"a":2}"#), ("a.json", r#"{"a":1}"#), (".hidden", "x")] {
        write_atomic(dir.path(), name, text.as_bytes()).unwrap();
    }
    let mut folder = Reference::open(dir.path()).unwrap();
    assert_eq!(folder.rows(), 2);
    assert_eq!([body(&mut folder, 0).unwrap(), body(&mut folder, 1).unwrap()], [r#"{"a":1}"#, r#"{"a":2}"#]);
}

#[test]
fn files_of_another_kind_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reference::open(dir.path()), Err(ReferenceError::Empty { .. })));
    write_atomic(dir.path(), "notes.txt", b"x").unwrap();
    assert!(matches!(Reference::open(&dir.path().join("notes.txt")), Err(ReferenceError::Kind { .. })));
    assert!(matches!(Reference::open(&dir.path().join("absent")), Err(ReferenceError::Read { .. })));
    assert!(body(&mut Reference::open(dir.path()).unwrap(), 0).unwrap_err().contains("no .json file"));
}

#[test]
fn of_many_rows_an_even_share_is_taken() {
    assert_eq!(spread(3, 10).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
    assert_eq!(spread(0, 4).count(), 0);
}
