//! End to end, on each broker: real processes of the same executable, real models, real faults.

mod ab;
mod attacks;
mod broker_faults;
mod clients;
mod copies;
mod crashes;
mod demo;
mod harms;
mod people;
mod restores;
mod rollouts;
mod tls;

use fieldpost_tests::broker::Kind;
use fieldpost_tests::{Field, place};

/// Runs a scenario in a fresh field of `devices` agents; passes over it, loudly, where the broker is missing.
async fn scenario<F>(kind: Kind, devices: usize, play: impl FnOnce(Field) -> F)
where
    F: Future<Output = anyhow::Result<()>>,
{
    let _place = place().await;
    let field = Field::new(kind, devices).await.expect("the field comes up");
    if let Some(field) = field
        && let Err(error) = play(field).await
    {
        panic!("{error:#}");
    }
}

/// Makes a scenario a test on the embedded broker a test on mosquitto, and a test on NATS.
macro_rules! on_each_broker {
    ($($name:ident: $devices:literal devices, $play:ident;)+) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::scenario(fieldpost_tests::broker::Kind::Embedded, $devices, super::$play).await;
            })+
        }
        mod nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::scenario(fieldpost_tests::broker::Kind::Nats, $devices, super::$play).await;
            })+
        }
        mod mosquitto {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::scenario(fieldpost_tests::broker::Kind::Mosquitto, $devices, super::$play).await;
            })+
        }
    };
}
use on_each_broker;
