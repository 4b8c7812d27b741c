//! What the controller reads: files of publishers and operators, requests of devices, its own journal after damage.

use fieldpost::api::types::EnrollRequest;
use fieldpost::fleet::selector::Selector;
use fieldpost::pack::source::Source;
use fieldpost::rollout::events::Record;
use fieldpost::rollout::machine::fold;
use fieldpost::rollout::strategy::{Strategy, StrategyFile};

fn text(data: &[u8]) -> &str {
    std::str::from_utf8(data).unwrap_or_default()
}

pub fn bundle_toml(data: &[u8]) {
    drop(toml::from_str::<Source>(text(data)));
}

pub fn strategy(data: &[u8]) {
    let Ok(file) = toml::from_str::<StrategyFile>(text(data)) else { return };
    let Ok(strategy) = Strategy::resolve(&file) else { return };
    for devices in [1, 7, 100_000] {
        drop(strategy.waves.resolve(devices, strategy.holdout.ceil(devices)));
    }
}

pub fn selector(data: &[u8]) {
    drop(text(data).parse::<Selector>());
}

pub fn enroll(data: &[u8]) {
    drop(serde_json::from_slice::<EnrollRequest>(data));
}

/// One event a line, as the journal holds them.
pub fn events(data: &[u8]) {
    let records: Vec<Record> = data.split(|byte| *byte == b'\n').filter_map(|line| Record::decode(line).ok()).collect();
    drop(fold(&records));
}
