//! The repository and statistics extensions: what is here, and how it does. Nothing is loaded or unloaded by a client:
//! models come by signed release alone.

use super::super::error::ApiError;
use super::super::registry::Registry;
use super::messages::{ModelIndex, ModelStatistics};
use axum::http::StatusCode;

/// §Repository Index: each model that is live, and, unless only those are asked for, each that should be.
pub(crate) fn index(registry: &Registry, only_ready: bool) -> Vec<ModelIndex> {
    let here = registry.here().into_iter();
    here.filter(|(_, live)| live.is_some() || !only_ready)
        .map(|(name, live)| match live {
            Some(live) => ModelIndex {
                name: name.to_string(),
                version: live.release().version.to_string(),
                state: "READY".to_owned(),
                reason: String::new(),
            },
            None => ModelIndex {
                name: name.to_string(),
                version: String::new(),
                state: "UNAVAILABLE".to_owned(),
                reason: "no release of it is live yet".to_owned(),
            },
        })
        .collect()
}

/// Every live release's counts.
pub(crate) fn statistics(registry: &Registry) -> Vec<ModelStatistics> {
    registry.here().into_iter().filter_map(|(_, live)| live).map(|live| live.statistics()).collect()
}

/// What who would load or unload a model is told.
pub(crate) fn refusal(model: &str) -> ApiError {
    let model = super::tensors::short(model);
    let message = format!(
        "`{model}` is not loaded or unloaded here: this box runs what a signed release of its fleet assigns to it \
         (`fieldpost rollout start`, on the controller)"
    );
    ApiError::new(StatusCode::FORBIDDEN, message)
}
