//! The repository and statistics extensions: what is here, and how it does. Nothing is loaded or unloaded by a client:
//! models come by signed release alone.

use super::super::error::ApiError;
use super::super::registry::{Live, Registry};
use super::super::router::{App, find};
use super::messages::{ModelIndex, ModelStatistics};
use axum::http::StatusCode;

/// §Repository Index: each release that answers, and, unless only those are asked for, each model that should.
pub(crate) fn index(registry: &Registry, only_ready: bool) -> Vec<ModelIndex> {
    let here = registry.here().into_iter();
    here.filter(|(_, live)| live.is_some() || !only_ready)
        .flat_map(|(name, live)| match live {
            Some(live) => live.arms().iter().map(|arm| ready(arm)).collect(),
            None => vec![ModelIndex {
                name: name.to_string(),
                version: String::new(),
                state: "UNAVAILABLE".to_owned(),
                reason: "no release of it is live yet".to_owned(),
            }],
        })
        .collect()
}

fn ready(live: &Live) -> ModelIndex {
    ModelIndex {
        name: live.release().model.to_string(),
        version: live.version(),
        state: "READY".to_owned(),
        reason: String::new(),
    }
}

/// The counts of every release that answers.
pub(crate) fn statistics(registry: &Registry) -> Vec<ModelStatistics> {
    let live = registry.here().into_iter().filter_map(|(_, live)| live);
    live.flat_map(|live| live.arms()).map(|arm| arm.statistics()).collect()
}

/// The counts of what answers for a model, or of one version of it.
///
/// # Errors
/// As [`find`].
pub(crate) fn statistics_of(app: &App, name: &str, version: Option<&str>) -> Result<Vec<ModelStatistics>, ApiError> {
    let live = find(app, Some(name), version)?;
    let asked = if version.is_some() { vec![live] } else { live.arms() };
    Ok(asked.iter().map(|arm| arm.statistics()).collect())
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
