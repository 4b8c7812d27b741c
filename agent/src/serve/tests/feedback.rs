//! The truth, told later.

use super::super::testing::FakeModel;
use super::{Answered, Running, send};
use crate::runtime::{Answer, Ranked};
use serde_json::{Value, json};
use std::sync::Arc;

async fn tell(server: &Running, body: Value) -> Answered {
    send(server.post("/v2/models/digits/feedback", "application/json", body.to_string())).await
}

/// A server that has answered "7" to request "a".
async fn asked() -> Running {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    assert_eq!(send(server.image().header("x-request-id", "a")).await.status, 200);
    server
}

#[tokio::test]
async fn a_label_is_joined_with_its_prediction_and_counted() {
    let mut server = asked().await;
    let answer = tell(&server, json!({ "id": "a", "label": "1" })).await;
    let expected = json!({
        "id": "a", "label": "1", "predicted": "7", "correct": false, "model": "digits", "version": "1.0.0"
    });
    assert_eq!((answer.status, answer.json()), (200, expected));
    send(server.image().header("x-request-id", "b")).await;
    assert_eq!(tell(&server, json!({ "id": "b", "label": 7 })).await.json()["correct"], true);
    let metrics = server.registry.metrics().text(false).1;
    let labels = r#"{model="digits",version="1.0.0"}"#;
    assert!(metrics.contains(&format!("fieldpost_labelled{labels} 2\n")), "{metrics}");
    assert!(metrics.contains(&format!("fieldpost_labelled_correct{labels} 1\n")));
    let window = server.window().await;
    assert_eq!((window.labelled_correct.hits, window.labelled_correct.n), (1, 2));
    assert_eq!((window.confusion.of(1, 7), window.confusion.of(7, 7)), (1, 1));
}

#[tokio::test]
async fn an_answer_in_tensors_is_labelled_by_its_own_id() {
    let server = Running::serving(FakeModel::new("1.0.0")).await;
    let input = json!({ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": vec![0.5; 64] });
    let request = json!({ "id": "mine", "inputs": [input] }).to_string();
    assert_eq!(send(server.post("/v2/models/digits/infer", "application/json", request)).await.status, 200);
    assert_eq!(tell(&server, json!({ "id": "mine", "label": "7" })).await.status, 200);
}

#[tokio::test]
async fn twice_is_a_conflict_and_an_unknown_id_is_not_found() {
    let server = asked().await;
    assert_eq!(tell(&server, json!({ "id": "a", "label": "7" })).await.status, 200);
    let twice = tell(&server, json!({ "id": "a", "label": "7" })).await;
    assert_eq!((twice.status, twice.error().contains("already")), (409, true));
    let unknown = tell(&server, json!({ "id": "b", "label": "7" })).await;
    assert_eq!((unknown.status, unknown.error().contains("too old")), (404, true));
    let path = server.post("/v2/models/other/feedback", "application/json", r#"{"id":"a","label":"7"}"#);
    assert_eq!(send(path).await.status, 404);
}

#[tokio::test]
async fn a_label_that_is_none_is_refused_and_may_be_told_again() {
    let server = asked().await;
    for label in [json!("eleven"), json!(10), json!(-1), json!(null), json!(7.5)] {
        assert_eq!(tell(&server, json!({ "id": "a", "label": label })).await.status, 400, "{label}");
    }
    assert_eq!(tell(&server, json!({ "id": "a" })).await.status, 400);
    assert_eq!(tell(&server, json!({ "id": "a", "label": "7", "more": 1 })).await.status, 400);
    let large = server.post("/v2/models/digits/feedback", "application/json", vec![b' '; 17 << 10]);
    assert_eq!(send(large).await.status, 413);
    assert_eq!(tell(&server, json!({ "id": "a", "label": "7" })).await.status, 200);
}

#[tokio::test]
async fn a_label_counts_for_the_release_that_answered_when_another_is_live() {
    let model = FakeModel::new("1.0.0");
    let gone = Arc::downgrade(&model);
    let mut server = Running::serving(model).await;
    assert_eq!(send(server.image().header("x-request-id", "a")).await.status, 200);
    server.registry.install(FakeModel::new("1.1.0"));
    assert_eq!(server.window().await.requests, 1);
    assert!(gone.upgrade().is_none(), "its memory is given back all the same");
    let late = tell(&server, json!({ "id": "a", "label": "1" })).await;
    assert_eq!((late.status, &late.json()["version"], &late.json()["correct"]), (200, &json!("1.0.0"), &json!(false)));
    let window = server.window().await;
    assert_eq!((window.version.as_str(), window.requests, window.labelled_correct.n), ("1.0.0", 0, 1));
    assert_eq!(window.confusion.of(1, 7), 1);
    assert_eq!(tell(&server, json!({ "id": "a", "label": "1" })).await.status, 409);
}

fn class(class: usize) -> Answer {
    Answer::Classification { class, label: None, score: 0.75, top: vec![], probabilities: vec![] }
}

/// A server that has answered so to a request in tensors, "mine".
async fn answered(answers: Vec<Answer>) -> Running {
    let server = Running::serving(FakeModel::new("1.0.0").answering(answers)).await;
    let input = json!({ "name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": vec![0.5; 64] });
    let request = json!({ "id": "mine", "inputs": [input] }).to_string();
    assert_eq!(send(server.post("/v2/models/digits/infer", "application/json", request)).await.status, 200);
    server
}

#[tokio::test]
async fn each_row_of_a_batch_has_its_label() {
    let mut server = answered(vec![class(7), class(1), class(2)]).await;
    let second = tell(&server, json!({ "id": "mine", "row": 1, "label": "1" })).await;
    assert_eq!((second.status, &second.json()["row"], &second.json()["correct"]), (200, &json!(1), &json!(true)));
    assert_eq!(tell(&server, json!({ "id": "mine", "row": 1, "label": "1" })).await.status, 409);
    assert_eq!(tell(&server, json!({ "id": "mine", "row": 2, "label": "1" })).await.json()["predicted"], "2");
    let unnamed = tell(&server, json!({ "id": "mine", "label": "1" })).await;
    assert_eq!((unnamed.status, unnamed.error().contains("3 rows")), (400, true));
    assert_eq!(tell(&server, json!({ "id": "mine", "row": 3, "label": "1" })).await.status, 400);
    let window = server.window().await;
    assert_eq!((window.labelled_correct.hits, window.labelled_correct.n, window.confusion.of(1, 2)), (1, 2, 1));
}

#[tokio::test]
async fn several_labels_are_right_when_just_these_were_named() {
    let held = |class| Ranked { class, label: None, score: 0.75 };
    let row = || Answer::MultiLabel { labels: vec![held(7), held(1)], probabilities: vec![0.5; 10] };
    let mut server = answered(vec![row(), row(), row()]).await;
    let of_row =
        async |row: usize, label: Value| tell(&server, json!({ "id": "mine", "row": row, "label": label })).await;
    let right = of_row(0, json!(["7", 1, 1])).await.json();
    assert_eq!(
        (&right["correct"], &right["label"], &right["predicted"]),
        (&json!(true), &json!(["1", "7"]), &json!(["1", "7"]))
    );
    assert_eq!(of_row(1, json!("7")).await.json()["correct"], false);
    assert_eq!(of_row(2, json!([])).await.json()["correct"], false);
    let window = server.window().await;
    assert_eq!((window.labelled_correct.hits, window.labelled_correct.n, window.confusion.is_empty()), (1, 3, true));
}

#[tokio::test]
async fn what_is_no_class_takes_no_label_and_one_class_is_not_several() {
    let server = answered(vec![Answer::Regression { value: 1.0 }]).await;
    assert_eq!(tell(&server, json!({ "id": "mine", "label": "1" })).await.status, 404);
    assert_eq!(tell(&asked().await, json!({ "id": "a", "label": ["7"] })).await.status, 400);
}
