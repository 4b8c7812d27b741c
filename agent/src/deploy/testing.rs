//! Things that the tests of this room build again and again.

use super::{Compared, Effects, Failure, Observed};
use fieldpost_shared::bundle::manifest::Budgets;
use fieldpost_shared::id::{Digest, ModelName, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{Assignment, Desired};
use fieldpost_shared::wire::v2::Mode;
use tokio::sync::watch;

/// A box on which nothing that is begun ever ends.
#[derive(Debug)]
pub(crate) struct Idle;

impl Effects for Idle {
    async fn fetch(&self, _: &Assignment, _: watch::Sender<(u64, u64)>) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn verify(&self, _: &Assignment) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn self_test(&self, _: &Assignment) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn beside(&self, _: &Assignment, _: &Mode) -> Result<(), Failure> {
        std::future::pending().await
    }

    fn alone(&self, _: &ModelName) {}

    fn observed_beside(&self, _: &ModelName) -> Option<(Observed, Compared)> {
        None
    }

    async fn swap(&self, _: &ReleaseRef) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn remove(&self, _: &ModelName) {}

    fn observed(&self, _: &ModelName) -> Option<Observed> {
        None
    }

    fn budgets(&self, _: &ReleaseRef) -> Option<Budgets> {
        None
    }

    async fn collect(&self, _: &[Digest]) {}
}

/// `model@n.0.0`; the manifest's digest is that of this text.
pub(crate) fn release(model: &str, n: u64) -> ReleaseRef {
    let version = semver::Version::new(n, 0, 0);
    ReleaseRef { model: model.parse().unwrap(), manifest: Digest::of(format!("{model}@{version}").as_bytes()), version }
}

/// Release `n` of a model at an attempt, with ten seconds of probation.
pub(crate) fn assignment(model: &str, n: u64, attempt: u32) -> Assignment {
    Assignment { release: release(model, n), signatures: vec![], rollout: None, attempt, probation_s: 10 }
}

/// A line of a file that freezes a disk form: a name, and bytes in hexadecimal.
pub(crate) fn frozen(name: &str, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name} {hex}\n")
}

/// A desired state.
pub(crate) fn desired(sequence: u64, expires_ms: u64, assignments: &[Assignment]) -> Desired {
    Desired {
        fleet: "default".parse().unwrap(),
        device: "box-1".parse().unwrap(),
        sequence,
        issued: Timestamp::from_millis(sequence),
        expires: Timestamp::from_millis(expires_ms),
        root_version: 1,
        assignments: assignments.to_vec(),
    }
}
