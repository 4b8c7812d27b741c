//! Figures of scipy, made by `tests/stats/reference.py`.

use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Reference {
    pub(crate) distances: Vec<Distance>,
    pub(crate) binomials: Vec<Binomial>,
    pub(crate) chi_squared_tails: Vec<Tail>,
    pub(crate) evidence: Vec<Evidence>,
}

#[derive(Deserialize)]
pub(crate) struct Distance {
    pub(crate) name: String,
    pub(crate) window: Vec<u64>,
    pub(crate) baseline: Vec<u64>,
    pub(crate) psi: f64,
    pub(crate) js: f64,
    pub(crate) g: Test,
    pub(crate) chi2: Test,
    pub(crate) ks: f64,
    pub(crate) places: Vec<f64>,
    pub(crate) wasserstein: f64,
}

#[derive(Deserialize)]
pub(crate) struct Test {
    pub(crate) statistic: f64,
    pub(crate) df: usize,
    pub(crate) p: f64,
}

#[derive(Deserialize)]
pub(crate) struct Binomial {
    pub(crate) k: u64,
    pub(crate) n: u64,
    pub(crate) p: f64,
    pub(crate) at_least: f64,
    pub(crate) at_most: f64,
    pub(crate) mass: f64,
    pub(crate) upper95: f64,
    pub(crate) lower95: f64,
}

#[derive(Deserialize)]
pub(crate) struct Tail {
    pub(crate) x: f64,
    pub(crate) df: usize,
    pub(crate) tail: f64,
}

#[derive(Deserialize)]
pub(crate) struct Evidence {
    pub(crate) window: Vec<u64>,
    pub(crate) baseline: Vec<u64>,
    pub(crate) ln_e: f64,
}

pub(crate) fn reference() -> Reference {
    serde_json::from_str(include_str!("testdata/reference.json")).unwrap()
}

/// Whether two figures agree to `relative`; what is below the smallest normal number cannot.
pub(crate) fn close(found: f64, wanted: f64, relative: f64) -> bool {
    (found - wanted).abs() <= relative * wanted.abs() + f64::MIN_POSITIVE
}
