use super::*;
use crate::runtime::engine::graph;
use crate::runtime::onnx_builder::{Attribute, Onnx, data_type};
use fieldpost_operators::standard;
use fieldpost_shared::bundle::Dtype;
use fieldpost_shared::durable::write_atomic;
use tract_onnx::prelude::{Datum, InferenceFact, IntoTValue, Tensor};

fn sizes_after(uses: &[usize]) -> Vec<usize> {
    let mut kept = Vec::new();
    for size in uses {
        drop(slot(&mut kept, 3, &[*size]));
    }
    kept.iter().map(|(sizes, _)| sizes[0]).collect()
}

#[test]
fn the_least_recently_used_plan_makes_room() {
    assert_eq!(sizes_after(&[1, 2, 3, 1, 4]), [3, 1, 4]);
}

#[test]
fn a_plan_in_use_is_not_made_twice() {
    let mut kept = Vec::new();
    let first = slot(&mut kept, 3, &[7]);
    assert!(Arc::ptr_eq(&first, &slot(&mut kept, 3, &[7])));
}

/// Takes rows of a table that has so many, by twice what it is given; a row beyond is found out when it runs.
fn taking(rows: u8) -> (InferenceModel, Vec<Symbol>) {
    let values: Vec<f32> = (0..rows).map(f32::from).collect();
    let graph = Onnx::default()
        .node("d", "Mul", &["half", "two"], &["double"])
        .node_with("c", "Cast", &["double"], &["at"], &[Attribute::Int("to", 7)])
        .node("g", "GatherND", &["table", "at"], &["y"])
        .weight("two", &[1], &[2.0])
        .weight("table", &[u64::from(rows), 1], &values)
        .input("half", data_type(Dtype::Fp32), &["N", "1"])
        .output("y", data_type(Dtype::Fp32), &["N", "1"]);
    let dir = tempfile::tempdir().unwrap();
    write_atomic(dir.path(), "m", &graph.bytes()).unwrap();
    let mut proto = graph::read(&dir.path().join("m")).unwrap();
    standard::rewrite(&mut proto);
    let mut onnx = tract_onnx::onnx();
    standard::register(&mut onnx.op_register);
    let mut model = onnx.parse(&proto, None).unwrap().model;
    let free = model.symbols.sym("N");
    let fact = InferenceFact::dt_shape(f32::datum_type(), [free.clone().into(), TDim::Val(1)]);
    model.set_input_fact(0, fact).unwrap();
    (model, vec![free])
}

/// Plans of a graph that was tidied up wrongly: it takes fewer indices than the graph as it was read.
fn tidied_up_wrongly() -> BySizes {
    let (narrow, symbols) = taking(2);
    let typed = narrow.into_typed().unwrap().into_decluttered().unwrap();
    // Symbols belong to the model whose they are.
    let (wide, _) = taking(6);
    BySizes::new(Base::Typed(typed, Some(wide)), symbols)
}

fn row(plans: &BySizes, index: u8) -> Option<f32> {
    let at = Tensor::from_shape(&[1, 1], &[f32::from(index) / 2.0]).unwrap();
    let outputs = plans.run(&[1], [at.into_tvalue()].into_iter().collect()).ok()?.ok()?;
    outputs[0].cast_to_scalar::<f32>().ok()
}

#[test]
fn one_bad_request_shuts_nobody_out() {
    let plans = tidied_up_wrongly();
    assert_eq!([9, 4, 9, 1].map(|index| row(&plans, index)), [None, Some(4.0), None, Some(1.0)]);
    // What the plan can answer needs no other.
    let plans = tidied_up_wrongly();
    assert_eq!([9, 1, 4].map(|index| row(&plans, index)), [None, Some(1.0), None]);
}

#[test]
fn whoever_comes_while_the_other_plan_is_made_has_its_answer() {
    for _ in 0..20 {
        let plans = tidied_up_wrongly();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..6).map(|_| scope.spawn(|| row(&plans, 5))).collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(answers, [Some(5.0); 6]);
    }
}
