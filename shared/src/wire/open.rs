//! The door: a payload becomes a body only when its signature, kind, fleet and addressee hold.

use super::v1::Body;
use crate::id::{DeviceId, FleetId};
use crate::trust::{
    Envelope, EnvelopeError, PublicKey, Role, RootMetadata, SecretKey, TrustError, envelope, verify_threshold,
};

/// Why a message is refused. [`OpenError::reason`] names it for counters.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not an envelope.
    #[error("the message is malformed")]
    Envelope(#[source] EnvelopeError),
    /// Not signed by whom it should be.
    #[error("the message is not signed by its sender")]
    Signature(#[source] Option<TrustError>),
    /// Signed, but not a body of this kind.
    #[error("the signed body is malformed")]
    Body(#[source] postcard::Error),
    /// Bytes after the body, or a collection beyond its bound.
    #[error("the signed body is out of bounds")]
    Bounds,
    /// Of another fleet.
    #[error("the message is of fleet `{0}`")]
    Fleet(FleetId),
    /// To or from another device.
    #[error("the message is of device `{0}`")]
    Device(DeviceId),
}

impl OpenError {
    /// A constant name, for counters and logs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Envelope(_) => "malformed",
            Self::Signature(_) => "signature",
            Self::Body(_) => "body",
            Self::Bounds => "bounds",
            Self::Fleet(_) => "fleet",
            Self::Device(_) => "device",
        }
    }
}

/// Signs a body and encodes its envelope.
///
/// # Errors
/// When the body cannot be encoded.
pub fn seal<B: Body>(body: &B, key: &SecretKey) -> Result<Vec<u8>, postcard::Error> {
    Ok(Envelope::seal(B::KIND, postcard::to_stdvec(body)?, key).to_bytes())
}

fn read<B: Body>(envelope: &Envelope, fleet: &FleetId, device: &DeviceId) -> Result<B, OpenError> {
    let (body, trailing): (B, _) = postcard::take_from_bytes(&envelope.body).map_err(OpenError::Body)?;
    if !trailing.is_empty() || !body.bounded() {
        return Err(OpenError::Bounds);
    }
    if body.fleet() != fleet {
        return Err(OpenError::Fleet(body.fleet().clone()));
    }
    if body.device() != device {
        return Err(OpenError::Device(body.device().clone()));
    }
    Ok(body)
}

/// Opens a message of a device: signed by exactly that device's key, of this fleet, about itself.
///
/// # Errors
/// When anything does not hold.
pub fn open_device<B: Body>(bytes: &[u8], fleet: &FleetId, device: &DeviceId, key: &PublicKey) -> Result<B, OpenError> {
    let envelope = Envelope::from_bytes(bytes).map_err(OpenError::Envelope)?;
    match envelope.signatures.as_slice() {
        [only] if envelope::verifies(B::KIND, &envelope.body, only, key) => read(&envelope, fleet, device),
        _ => Err(OpenError::Signature(None)),
    }
}

/// Opens a message of the controller to one device: signed by the controller role's threshold.
///
/// # Errors
/// When anything does not hold.
pub fn open_controller<B: Body>(bytes: &[u8], root: &RootMetadata, device: &DeviceId) -> Result<B, OpenError> {
    let envelope = Envelope::from_bytes(bytes).map_err(OpenError::Envelope)?;
    verify_threshold(root, Role::Controller, B::KIND, &envelope.body, &envelope.signatures)
        .map_err(|error| OpenError::Signature(Some(error)))?;
    read(&envelope, &root.fleet, device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use crate::trust::root::tests::{key, root};
    use crate::wire::v1::{Ack, Alive, Sequence};

    fn ack(fleet: &str, device: &str) -> Ack {
        Ack {
            fleet: fleet.parse().unwrap(),
            device: device.parse().unwrap(),
            stored: Sequence { epoch: 5, number: 7 },
            issued: Timestamp::EPOCH,
        }
    }

    fn check<B: Body + std::fmt::Debug>(bytes: &[u8]) -> &'static str {
        let device = "box-1".parse().unwrap();
        open_controller::<B>(bytes, &root(1), &device).map_or_else(|error| error.reason(), |_| "believed")
    }

    #[test]
    fn a_message_of_the_controller_is_believed() {
        assert_eq!(check::<Ack>(&seal(&ack("default", "box-1"), &key(3)).unwrap()), "believed");
    }

    #[test]
    fn a_message_to_another_device_is_refused() {
        assert_eq!(check::<Ack>(&seal(&ack("default", "box-2"), &key(3)).unwrap()), "device");
    }

    #[test]
    fn a_message_of_another_fleet_is_refused() {
        assert_eq!(check::<Ack>(&seal(&ack("other", "box-1"), &key(3)).unwrap()), "fleet");
    }

    #[test]
    fn a_message_of_another_kind_is_refused() {
        assert_eq!(check::<Alive>(&seal(&ack("default", "box-1"), &key(3)).unwrap()), "signature");
    }

    #[test]
    fn a_publisher_does_not_speak_for_the_controller() {
        assert_eq!(check::<Ack>(&seal(&ack("default", "box-1"), &key(2)).unwrap()), "signature");
    }

    #[test]
    fn a_doubly_signed_message_of_a_device_is_refused() {
        let (fleet, device) = ("default".parse().unwrap(), "box-1".parse().unwrap());
        let bytes = seal(&ack("default", "box-1"), &key(8)).unwrap();
        assert!(open_device::<Ack>(&bytes, &fleet, &device, &key(8).public()).is_ok());
        assert!(open_device::<Ack>(&bytes, &fleet, &device, &key(9).public()).is_err());
        let mut envelope = Envelope::from_bytes(&bytes).unwrap();
        envelope.signatures.push(envelope.signatures[0]);
        assert!(open_device::<Ack>(&envelope.to_bytes(), &fleet, &device, &key(8).public()).is_err());
    }

    #[test]
    fn signed_noise_is_refused() {
        let noise = Envelope::seal(crate::trust::Kind::Ack, vec![255; 40], &key(3)).to_bytes();
        assert_eq!(check::<Ack>(&noise), "body");
        let mut body = postcard::to_stdvec(&ack("default", "box-1")).unwrap();
        body.push(0);
        assert_eq!(check::<Ack>(&Envelope::seal(crate::trust::Kind::Ack, body, &key(3)).to_bytes()), "bounds");
    }
}
