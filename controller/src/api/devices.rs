//! `/v1/devices`

use super::page::{self, Page};
use super::path::Path;
use super::types::{Device, LabelChange, Role};
use super::{Api, ApiError, Caller, blocking};
use crate::fleet::devices::{DeviceError, DeviceRecord};
use crate::fleet::selector::{Selector, Subject};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use fieldpost_shared::id::DeviceId;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    selector: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
    /// Begins behind this name; there need not be such a device.
    #[serde(default)]
    after: Option<DeviceId>,
}

/// Devices by name, in pages.
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Page<Vec<Device>>, ApiError> {
    caller.must_be(Role::Viewer)?;
    let Query(ListQuery { selector, limit, after }) = query?;
    let limit = page::size(limit, 1)?;
    let selector = match selector {
        Some(text) => text
            .parse()
            .map_err(|error: crate::fleet::selector::SelectorError| ApiError::of(StatusCode::BAD_REQUEST, &error))?,
        None => Selector::all(),
    };
    blocking(move || {
        let behind = |record: &Arc<DeviceRecord>| after.as_ref().is_none_or(|after| record.id > *after);
        let shown = api.devices.list().into_iter().filter(behind).map(|record| api.running.device(&record));
        let matches = |device: &Device| {
            selector.matches(Subject { id: &device.id, labels: &device.labels, inventory: &device.inventory })
        };
        let found = shown.filter(matches).take(limit + 1).collect();
        Ok(Page::cut(found, limit, &uri, |device| device.id.to_string()))
    })
    .await
}

pub(super) fn id(text: &str) -> Result<DeviceId, ApiError> {
    text.parse().map_err(|_not_a_name| DeviceError::NoSuch(text.chars().take(80).collect()).into())
}

async fn changed(
    api: Api,
    change: impl FnOnce(&Api) -> Result<Arc<DeviceRecord>, DeviceError> + Send + 'static,
) -> Result<Json<Device>, ApiError> {
    blocking(move || {
        let record = change(&api)?;
        Ok(Json(api.running.device(&record)))
    })
    .await
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Device>, ApiError> {
    caller.must_be(Role::Viewer)?;
    let id = id(&name)?;
    changed(api, move |api| api.devices.find(&id).ok_or_else(|| DeviceError::NoSuch(id.to_string()))).await
}

pub(super) async fn label(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    change: Result<Json<LabelChange>, JsonRejection>,
) -> Result<Json<Device>, ApiError> {
    caller.must_be(Role::Operator)?;
    let (id, Json(change)) = (id(&name)?, change?);
    changed(api, move |api| api.devices.label(&caller.actor, &id, &change)).await
}

pub(super) async fn approve(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Device>, ApiError> {
    caller.must_be(Role::Admin)?;
    let id = id(&name)?;
    changed(api, move |api| api.devices.approve(&caller.actor, &id)).await
}

pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Device>, ApiError> {
    caller.must_be(Role::Admin)?;
    let id = id(&name)?;
    changed(api, move |api| api.running.revoke(&caller.actor, &id)).await
}
