//! `fieldpost init`: a controller's data directory before its first start, for who wants to name the fleet or edit the
//! configuration first. `serve` does the same by itself with defaults.

use super::{Context, Exit, Failure, output};
use crate::trust_dir::{CONTROLLER_KEY, PUBLISHER_KEY, ROOT_KEY, Trust};
use clap::Args;
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::id::FleetId;
use serde::Serialize;
use std::path::PathBuf;

/// The configuration below the data directory, which `serve` uses when no other is named.
pub const CONFIG_FILE: &str = "controller.toml";
/// The sample that is installed with the systemd unit: every key, commented.
const SAMPLE: &str = include_str!("../../../systemd/controller.toml");

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fieldpost init
  fieldpost init --fleet plant-7 --data-dir /srv/fieldpost")]
pub struct InitArgs {
    /// Name of the fleet; it cannot be changed later
    #[arg(long, default_value = "default")]
    pub fleet: FleetId,
}

#[derive(Serialize)]
struct Made {
    data_dir: PathBuf,
    config: PathBuf,
    fleet: FleetId,
    root_key: PathBuf,
    publisher_key: PathBuf,
    controller_key: PathBuf,
}

/// Makes configuration, keys and the first root of trust.
///
/// # Errors
/// When there is one already, or the directory cannot be written.
pub fn run(args: InitArgs, context: &Context) -> Result<Exit, Failure> {
    let dir = context.data_dir();
    let refuse = || Failure::new(format!("cannot make a controller in `{}`", dir.display()));
    let config = dir.join(CONFIG_FILE);
    if config.exists() || context.trust_dir().exists() {
        let hint = "`fieldpost serve` starts it; name another directory with --data-dir for a second one";
        return Err(refuse().because_text("there is one already").hint(hint));
    }
    std::fs::create_dir_all(dir).map_err(|error| refuse().because(&error))?;
    let trust = context.trust_dir();
    Trust::open_or_create(&trust, &args.fleet, context.clock().now()).map_err(|error| refuse().because(&error))?;
    let text = configuration(&args.fleet, dir);
    write_atomic(dir, CONFIG_FILE, text.as_bytes()).map_err(|error| refuse().because(&error))?;
    let made = Made {
        data_dir: dir.to_owned(),
        config,
        fleet: args.fleet,
        root_key: trust.join(ROOT_KEY),
        publisher_key: trust.join(PUBLISHER_KEY),
        controller_key: trust.join(CONTROLLER_KEY),
    };
    context.show(&made, text_of)
}

/// The sample for this directory and this fleet.
fn configuration(fleet: &FleetId, dir: &std::path::Path) -> String {
    let line = |line: &str| {
        let value = |text: &str| toml::Value::String(text.to_owned());
        match line {
            _ if line.starts_with("data_dir = ") => format!("data_dir = {}", value(&dir.to_string_lossy())),
            _ if line.starts_with("# fleet = ") => format!("fleet = {}", value(fleet.as_str())),
            _ if line.starts_with("# /etc/") => line.replace("/etc/fieldpost/controller.toml: the", "The"),
            _ => line.to_owned(),
        }
    };
    let mut text = SAMPLE.lines().map(line).collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

fn text_of(made: &Made) -> String {
    let path = |path: &PathBuf| path.display().to_string();
    let rows = [
        ("fleet", made.fleet.to_string()),
        ("configuration", path(&made.config)),
        ("root key", format!("{}  (put it into a safe)", path(&made.root_key))),
        ("publisher key", format!("{}  (for CI or an engineer's machine)", path(&made.publisher_key))),
        ("controller key", format!("{}  (must stay)", path(&made.controller_key))),
        ("next", "fieldpost serve".to_owned()),
    ];
    output::fields(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::test_context;
    use crate::config::{Config, Overrides};

    fn init(fleet: &str, dir: &std::path::Path) -> Result<Exit, Failure> {
        run(InitArgs { fleet: fleet.parse().unwrap() }, &test_context(dir))
    }

    #[test]
    fn the_configuration_it_writes_is_the_one_that_serve_reads() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a \"strange\" name");
        init("plant-7", &dir).unwrap();
        let file = dir.join(CONFIG_FILE);
        let config = Config::load(Some(&file), Overrides::default(), root.path(), |_| None).unwrap();
        assert_eq!((config.fleet.as_str(), config.data_dir.as_path()), ("plant-7", dir.as_path()));
        let trust = Trust::open_or_create(&dir.join("trust"), &config.fleet, fieldpost_shared::time::Timestamp::EPOCH);
        assert!(!trust.unwrap().1, "the trust was made anew");
    }

    #[test]
    fn a_second_time_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        init("one", dir.path()).unwrap();
        let refused = init("two", dir.path()).unwrap_err().to_string();
        assert!(refused.contains("there is one already"), "{refused}");
        assert!(std::fs::read_to_string(dir.path().join(CONFIG_FILE)).unwrap().contains("fleet = \"one\""));
    }
}
