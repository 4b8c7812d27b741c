//! One program for all fuzz targets: `FUZZ_TARGET` names the one to run, and `list` prints their names. Each takes bytes
//! from anywhere and must neither panic nor take memory or time out of proportion; what is believed must be consistent.
//!
//! One program and not one per target, because linking the runtime for each would take longer than fuzzing.

#![no_main]

#[cfg(feature = "whole")]
mod controller;
mod door;
mod files;
#[cfg(feature = "whole")]
mod requests;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

type Target = fn(&[u8]);

/// The decoders that agent and controller share, by the name of their corpus.
const SHARED: &[(&str, Target)] = &[
    ("envelope", door::envelope),
    ("body", door::body),
    ("topic", door::topic),
    ("root", door::root),
    ("window", door::window),
    ("manifest", files::manifest),
    ("bundle", files::bundle),
    ("chunk", files::chunk),
    ("golden", files::golden),
    ("tensor", files::tensor),
];

/// Those of one side.
#[cfg(feature = "whole")]
const OWN: &[(&str, Target)] = &[
    ("image", requests::image),
    ("features", requests::features),
    ("text", requests::text_bytes),
    ("infer", requests::infer),
    ("infer-binary", requests::infer_binary),
    ("infer-protobuf", requests::infer_protobuf),
    ("unpack", requests::unpack),
    ("feedback", requests::feedback),
    ("grpc-small", requests::grpc_small),
    ("grpc-frames", requests::grpc_frames),
    ("head", requests::head),
    ("bundle-toml", controller::bundle_toml),
    ("strategy", controller::strategy),
    ("selector", controller::selector),
    ("enroll", controller::enroll),
    ("events", controller::events),
];

#[cfg(not(feature = "whole"))]
const OWN: &[(&str, Target)] = &[];

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn choose() {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    if name == "list" {
        SHARED.iter().chain(OWN).for_each(|(name, _)| println!("{name}"));
        std::process::exit(0);
    }
    let found = SHARED.iter().chain(OWN).find(|(known, _)| *known == name);
    let (_, target) = found.unwrap_or_else(|| panic!("FUZZ_TARGET `{name}` is none; `list` prints them"));
    CHOSEN.get_or_init(|| *target);
}

fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(target) = CHOSEN.get() {
        target(data);
    }
});
