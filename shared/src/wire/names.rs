//! What a device is called at a broker: in topics, as a user, as a client.
//!
//! Names may hold dots, and host names do. NATS's gateway takes no topic with a dot (its own subjects have one between
//! their parts) and ends the connection that names one, will included. So `~`, which no name has, stands for each
//! (docs/adr/0018).

use crate::id::{DeviceId, FleetId, IdError};

/// A device's name as a level of topics, and as its user name: access lists of brokers put the one in the other's place.
#[must_use]
pub fn device_level(device: &DeviceId) -> String {
    without_dots(device.as_str())
}

/// The device that a level of a topic, or a user name, stands for.
///
/// # Errors
/// When no device is written so.
pub fn device_at(level: &str) -> Result<DeviceId, IdError> {
    // A dot becomes what no name may hold: a device has one name at a broker.
    let swapped = |c: char| match c {
        '~' => '.',
        '.' => '~',
        other => other,
    };
    level.chars().map(swapped).collect::<String>().parse()
}

/// The MQTT client id of a device of a fleet.
#[must_use]
pub fn device_client(fleet: &FleetId, device: &DeviceId) -> String {
    without_dots(&format!("fp-{fleet}-{device}"))
}

/// The MQTT client id of a fleet's controller: the same at each start, so that one started twice displaces itself and it
/// shows.
#[must_use]
pub fn controller_client(fleet: &FleetId) -> String {
    without_dots(&format!("fp-controller-{fleet}"))
}

fn without_dots(name: &str) -> String {
    name.replace('.', "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_one_name_at_a_broker_and_it_has_no_dot() {
        let device: DeviceId = "box-1.lyon.example".parse().unwrap();
        let fleet: FleetId = "acme.eu".parse().unwrap();
        assert_eq!(device_level(&device), "box-1~lyon~example");
        assert_eq!(device_at("box-1~lyon~example"), Ok(device.clone()));
        assert!(device_at("box-1.lyon.example").is_err());
        assert!(device_at("box-1~lyon.example").is_err());
        assert_eq!(device_client(&fleet, &device), "fp-acme~eu-box-1~lyon~example");
        assert_eq!(controller_client(&fleet), "fp-controller-acme~eu");
    }
}
