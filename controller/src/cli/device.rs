//! `fieldpost device`: the fleet as the controller knows it.

use super::{Context, Exit, Failure, output};
use crate::api::types::{AcceptRequest, Device, DeviceStatus, LabelChange, ModelState, Take};
use clap::{Args, Subcommand};
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::Phase;

/// Arguments of `device`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fieldpost device list --selector site=lyon,arch=aarch64
  fieldpost device show box-17
  fieldpost device label box-17 site=lyon tier=lab
  fieldpost device approve box-18
  fieldpost device accept --all --keep")]
pub struct DeviceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeviceCommand,
}

/// What can be done with devices.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// List devices and what they run
    #[command(after_help = "Examples:
  fieldpost device list
  fieldpost device list --selector 'site=lyon,tier!=lab' --output json
  fieldpost device list --limit 20")]
    List {
        /// Only devices with these labels or inventory, such as site=lyon,arch=aarch64,tier!=lab,has:gpu
        #[arg(long, short = 'l', value_name = "SELECTOR")]
        selector: Option<String>,
        /// At most so many, in the order of their names
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// Show one device: inventory, models, what it should run, what failed on it
    #[command(after_help = "Example:\n  fieldpost device show box-17")]
    Show {
        /// The device
        device: DeviceId,
    },
    /// Set labels (name=value) or take them away (name-)
    #[command(after_help = "Example:\n  fieldpost device label box-17 site=lyon tier-")]
    Label {
        /// The device
        device: DeviceId,
        /// name=value sets, name- removes
        #[arg(required = true, value_name = "LABEL")]
        labels: Vec<String>,
    },
    /// Let in a device that asked without a token; compare its fingerprint first
    #[command(after_help = "Example:\n  fieldpost device approve box-18")]
    Approve {
        /// The device
        device: DeviceId,
    },
    /// Decide what becomes of devices that follow orders which the controller does not know, since it was restored from
    /// an older copy of its data; until then they are told nothing
    #[command(
        group = clap::ArgGroup::new("which").required(true).args(["devices", "all"]),
        group = clap::ArgGroup::new("take").required(true).args(["keep", "restore"]),
        after_help = "Examples:
  fieldpost device accept box-17 --keep
  fieldpost device accept --all --restore

What a device runs and what it should run: fieldpost device show"
    )]
    Accept {
        /// The devices
        #[arg(value_name = "DEVICE")]
        devices: Vec<DeviceId>,
        /// Every device that waits for this
        #[arg(long)]
        all: bool,
        /// They go on with what they run; the controller takes that over
        #[arg(long)]
        keep: bool,
        /// They run what the controller says that they should, and nothing else
        #[arg(long)]
        restore: bool,
    },
    /// Shut a device out: its key opens nothing any more
    #[command(after_help = "Example:\n  fieldpost device revoke box-17")]
    Revoke {
        /// The device
        device: DeviceId,
    },
}

/// Lists, shows or changes devices.
///
/// # Errors
/// When the controller cannot be reached or refuses.
pub async fn run(args: DeviceArgs, context: &Context) -> Result<Exit, Failure> {
    let client = context.client()?;
    let now = context.clock().now();
    match args.command {
        DeviceCommand::List { selector, limit } => {
            let query: Vec<_> = selector.iter().map(|selector| ("selector", selector.as_str())).collect();
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            let devices: Vec<Device> = client.list("list devices", &["v1", "devices"], &query, limit).await?;
            context.show(&devices, |devices| list(devices, now))
        }
        DeviceCommand::Show { device } => {
            let operation = format!("show device {device}");
            let device: Device = client.get(&operation, &["v1", "devices", device.as_str()], &[]).await?;
            context.show(&device, |device| show(device, now))
        }
        DeviceCommand::Label { device, labels } => {
            let change = label_change(&labels)?;
            let path = ["v1", "devices", device.as_str(), "labels"];
            let changed: Device = client.post(&format!("label device {device}"), &path, &change).await?;
            done(context, &changed, "labelled")
        }
        DeviceCommand::Accept { devices, all, keep, restore: _ } => {
            accept(context, devices, all, if keep { Take::Keep } else { Take::Restore }).await
        }
        DeviceCommand::Approve { device } => act(context, &device, "approve", "approved").await,
        DeviceCommand::Revoke { device } => act(context, &device, "revoke", "revoked").await,
    }
}

async fn act(context: &Context, device: &DeviceId, action: &str, past: &str) -> Result<Exit, Failure> {
    let path = ["v1", "devices", device.as_str(), action];
    let client = context.client()?;
    let changed: Device = client.post(&format!("{action} device {device}"), &path, &serde_json::json!({})).await?;
    done(context, &changed, past)
}

/// One device that cannot be decided on does not hold the others up.
async fn accept(context: &Context, mut devices: Vec<DeviceId>, all: bool, take: Take) -> Result<Exit, Failure> {
    let client = context.client()?;
    if all {
        let known: Vec<Device> = client.list("list devices", &["v1", "devices"], &[], None).await?;
        devices = known.into_iter().filter(|device| device.ahead).map(|device| device.id).collect();
    }
    let (mut changed, mut failed) = (Vec::<Device>::new(), Vec::<Failure>::new());
    for id in &devices {
        let path = ["v1", "devices", id.as_str(), "accept"];
        match client.post(&format!("accept device {id}"), &path, &AcceptRequest { take }).await {
            Ok(device) => changed.push(device),
            Err(error) => failed.push(error.into()),
        }
    }
    let line = |device: &Device| {
        let runs = device.desired.iter().map(|desired| desired.release.to_string()).collect::<Vec<_>>().join(", ");
        let runs = if runs.is_empty() { "nothing" } else { &runs };
        let verb = if take == Take::Keep { "keeps" } else { "goes back to" };
        format!("{} {verb} {runs}", device.id)
    };
    let lines = changed.iter().map(line).collect::<Vec<_>>().join("\n");
    let text = if lines.is_empty() { "no device waits for a decision".to_owned() } else { lines };
    match failed.len() {
        0 => context.done(&changed, &text),
        1 if changed.is_empty() => Err(failed.remove(0)),
        more => {
            context.done(&changed, &text)?;
            for failure in &failed {
                context.note(&failure.one_line());
            }
            let first = failed.first().map(Failure::one_line).unwrap_or_default();
            let hint = "push what they run (`fieldpost bundle push`), or decide for each of them";
            Err(Failure::new(format!("{more} of {} devices still wait", devices.len())).because_text(first).hint(hint))
        }
    }
}

fn done(context: &Context, device: &Device, past: &str) -> Result<Exit, Failure> {
    context.done(device, &format!("{past} {}", device.id))
}

fn label_change(labels: &[String]) -> Result<LabelChange, Failure> {
    let mut change = LabelChange::default();
    for label in labels {
        match (label.split_once('='), label.strip_suffix('-')) {
            (Some((name, value)), _) if !name.is_empty() => {
                change.set.insert(name.to_owned(), value.to_owned());
            }
            (None, Some(name)) if !name.is_empty() => change.remove.push(name.to_owned()),
            _ => {
                return Err(Failure::usage(format!("`{label}` is no label")).hint("name=value sets, name- removes"));
            }
        }
    }
    if let Some(name) = change.remove.iter().find(|name| change.set.contains_key(*name)) {
        return Err(Failure::usage(format!("label `{name}` is both set and removed")));
    }
    Ok(change)
}

fn list(devices: &[Device], now: Timestamp) -> String {
    if devices.is_empty() {
        return "no devices; `fieldpost token create --enroll` makes a token that lets them in".to_owned();
    }
    let rows = devices.iter().map(|device| {
        vec![
            device.id.to_string(),
            state(device).to_owned(),
            output::ago(device.last_seen, now),
            device.models.iter().map(running).collect::<Vec<_>>().join("\n"),
            labels(device),
            device.inventory.arch.clone(),
        ]
    });
    let table = output::table(&["device", "state", "seen", "runs", "labels", "arch"], rows);
    match devices.iter().filter(|device| device.ahead).count() {
        0 => table,
        1 => format!("{table}\n{}", ahead("1 device follows")),
        more => format!("{table}\n{}", ahead(&format!("{more} devices follow"))),
    }
}

fn ahead(who: &str) -> String {
    format!(
        "{who} orders that this controller does not know (its data is older than the fleet) and is told nothing:\n\
         `fieldpost device accept --all --keep` takes over what runs there, `--restore` brings back what should run"
    )
}

fn state(device: &Device) -> &'static str {
    match (device.status, device.alive) {
        (DeviceStatus::Pending, _) => "pending",
        (DeviceStatus::Revoked, _) => "revoked",
        (DeviceStatus::Active, _) if device.ahead => "ahead",
        (DeviceStatus::Active, true) if device.hold.is_some() => "held",
        (DeviceStatus::Active, true) => "online",
        (DeviceStatus::Active, false) => "offline",
    }
}

fn labels(device: &Device) -> String {
    device.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// `digits@1.0.0`, and where it is going: `digits@1.0.0 -> 1.1.0 fetching 40 %`.
fn running(model: &ModelState) -> String {
    let live = match &model.live {
        Some(release) => release.to_string(),
        None => format!("{} (none)", model.model),
    };
    match (&model.candidate, &model.phase) {
        (Some(candidate), Some(phase)) => format!("{live} -> {} {}", candidate.version, phase_text(phase)),
        (Some(candidate), None) => format!("{live} -> {}", candidate.version),
        (None, _) => live,
    }
}

fn phase_text(phase: &Phase) -> String {
    match phase {
        Phase::Fetching { done, total } => {
            format!("fetching {} %", done.saturating_mul(100).checked_div(*total).unwrap_or(0))
        }
        Phase::Verifying => "verifying".to_owned(),
        Phase::SelfTesting => "self-testing".to_owned(),
        Phase::Swapping => "swapping".to_owned(),
        Phase::Probation => "on probation".to_owned(),
        Phase::Shadowing => "in shadow".to_owned(),
        Phase::Splitting => "in a split".to_owned(),
        Phase::Blocked(reason) => format!("blocked: {reason}"),
    }
}

fn show(device: &Device, now: Timestamp) -> String {
    let box_ = &device.inventory;
    let mut rows = vec![
        ("device", device.id.to_string()),
        ("state", state(device).to_owned()),
        ("seen", output::ago(device.last_seen, now)),
        ("enrolled", device.enrolled.to_string()),
        ("fingerprint", device.fingerprint.to_string()),
        ("labels", labels(device)),
        (
            "box",
            format!(
                "{}, {} x {}, {} MiB RAM, {} MiB free disk",
                box_.os, box_.cpus, box_.arch, box_.ram_mib, box_.free_disk_mib
            ),
        ),
        ("host", format!("{}, agent {}", box_.hostname, box_.agent_version)),
    ];
    if !box_.serving.is_empty() {
        rows.push(("serves on", box_.serving.clone()));
    }
    for model in &device.models {
        rows.push(("runs", running(model)));
        if let Some(previous) = &model.previous {
            rows.push(("  previous", previous.to_string()));
        }
    }
    for desired in &device.desired {
        let rollout = desired.rollout.as_ref().map(|id| format!(" by rollout {id}")).unwrap_or_default();
        rows.push(("should run", format!("{}{rollout}", desired.release)));
    }
    if device.ahead {
        let id = &device.id;
        rows.push((
            "ahead",
            format!(
                "it follows orders that this controller does not know, and is told nothing; `fieldpost device accept {id} \
                 --keep` takes over what runs there, `--restore` brings back what should run"
            ),
        ));
    }
    if device.desired_sequence > device.accepted_sequence {
        rows.push(("not yet", "it has not accepted what it should run".to_owned()));
    }
    for failed in &device.quarantine {
        let when = output::ago(Some(failed.at), now);
        rows.push(("failed", format!("{} ({when}): {}", failed.release, failed.detail)));
    }
    if let Some(hold) = &device.hold {
        rows.push(("held", hold.clone()));
    }
    if device.outbox.windows > 0 {
        rows.push((
            "waiting",
            format!("{} windows of statistics, {}", device.outbox.windows, output::bytes(device.outbox.bytes)),
        ));
    }
    if device.windows_lost > 0 {
        rows.push(("lost", format!("{} windows of statistics never came", device.windows_lost)));
    }
    if device.rival_seen.is_some() {
        let seen = output::ago(device.rival_seen, now);
        rows.push((
            "identity",
            format!("two agents run under this name (the other was heard {seen}): enrol one of them anew"),
        ));
    }
    for (reason, count) in &device.refused {
        rows.push(("refused", format!("{count} messages: {reason}")));
    }
    rows.push(("fetched", output::bytes(device.fetched_bytes)));
    output::fields(&rows)
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
