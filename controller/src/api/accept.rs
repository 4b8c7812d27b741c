//! `POST /v1/devices/{id}/accept`: what becomes of a device that follows orders which the controller does not know.

use super::path::Path;
use super::types::{AcceptRequest, Device, Role, Take};
use super::{Api, ApiError, Caller, blocking, devices};
use crate::fleet::devices::DeviceError;
use crate::rollout::engine::EngineHandle;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};

pub(super) async fn accept(
    State(api): State<Api>,
    caller: Caller,
    Extension(engine): Extension<EngineHandle>,
    Path(name): Path<String>,
    body: Result<Json<AcceptRequest>, JsonRejection>,
) -> Result<Json<Device>, ApiError> {
    caller.must_be(Role::Operator)?;
    let (id, Json(AcceptRequest { take })) = (devices::id(&name)?, body?);
    let (asked, device) = (api.clone(), id.clone());
    blocking(move || Ok(asked.running.may_accept(&device, take)?)).await?;
    if take == Take::Keep {
        // Before the hold ends: what rollouts of this store still want there must not be told in between.
        engine.let_go(id.clone()).await?;
    }
    blocking(move || {
        api.running.accept(&caller.actor, &id, take)?;
        let record = api.devices.find(&id).ok_or_else(|| DeviceError::NoSuch(id.to_string()))?;
        Ok(Json(api.running.device(&record)))
    })
    .await
}
