//! Memory is given back when a model is unloaded. The measurement has a process of its own, so that it sees nothing else,
//! and the environment that the unit gives the agent: glibc left to itself keeps some of it (`systemd/README.md`).

use super::fixtures::{f32s, file, load_from, manifest, spec};
use super::memory::resident_bytes;
use super::onnx_builder::{Onnx, data_type};
use crate::monitor::MonitorSettings;
use crate::serve::Registry;
use fieldpost_shared::bundle::Dtype;
use fieldpost_shared::bundle::manifest::FileRole;
use fieldpost_shared::time::SystemClock;
use std::process::Command;
use std::sync::Arc;

const CYCLES: usize = 100;
/// After so many the allocator has what it keeps.
const WARM: usize = 10;
const SIDE: usize = 1_024;
const WEIGHT_BYTES: usize = SIDE * SIDE * 4;
const UNIT: &str = include_str!("../../../systemd/fieldpost-agent.service");

#[test]
fn a_hundred_models_loaded_and_unloaded_leave_no_memory_behind() {
    let itself = std::env::current_exe().unwrap();
    let stated = UNIT.lines().find_map(|line| line.strip_prefix("Environment=MALLOC_")).expect("the unit says");
    let (name, value) = stated.split_once('=').unwrap();
    let child = Command::new(itself)
        .env(format!("MALLOC_{name}"), value)
        .args(["--exact", "runtime::unload_tests::cycles", "--ignored", "--nocapture", "--test-threads", "1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("KiB after 100 cycles"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

/// Loads, installs, runs on four threads with two batch sizes, removes; each time a model with 4 MiB of weights.
#[test]
#[ignore = "run by the test above, alone in its process"]
fn cycles() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..SIDE * SIDE).map(|n| (n % 97) as f32 / 97.0).collect();
    let side = SIDE.to_string();
    let onnx = Onnx::default()
        .input("x", data_type(Dtype::Fp32), &["N", &side])
        .weight("w", &[SIDE as u64, SIDE as u64], &values)
        .node("product", "MatMul", &["x", "w"], &["y"])
        .output("y", data_type(Dtype::Fp32), &["N", &side]);
    fieldpost_shared::durable::write_atomic(dir.path(), "model.onnx", &onnx.bytes()).unwrap();
    let (sender, _closed) = tokio::sync::mpsc::channel(1);
    let registry = Registry::new(Arc::new(SystemClock::new()), MonitorSettings::default(), sender);
    let mut warm = 0;
    for cycle in 1..=CYCLES {
        let mut declared =
            manifest("wide", vec![spec("x", Dtype::Fp32, &["N", &side])], vec![spec("y", Dtype::Fp32, &["N", &side])]);
        declared.files = vec![file("model.onnx", FileRole::Model)];
        let model = Arc::new(load_from(dir.path(), declared).unwrap());
        registry.install(Arc::clone(&model) as Arc<dyn crate::serve::Model>);
        std::thread::scope(|scope| {
            for batch in [1, 2, 1, 2] {
                let model = &model;
                scope.spawn(move || model.infer(&[f32s(&[batch, SIDE], &vec![0.5; batch * SIDE])]).unwrap());
            }
        });
        let (name, weak) = (model.release().model.clone(), Arc::downgrade(&model));
        drop(model);
        registry.remove(&name);
        registry.forget_retired();
        assert!(weak.upgrade().is_none(), "somebody still holds it");
        if cycle == WARM {
            warm = resident_bytes().unwrap();
        }
    }
    let end = resident_bytes().unwrap();
    println!("{} KiB after {WARM} cycles, {} KiB after {CYCLES} cycles", warm >> 10, end >> 10);
    // Were one copy of the weights left behind each time, it would be 360 MiB.
    assert!(end.saturating_sub(warm) < 4 * WEIGHT_BYTES as u64, "{warm} bytes, then {end}");
}
