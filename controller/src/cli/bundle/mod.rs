//! `fieldpost bundle`: from a folder with a model to a signed release in the controller.

mod diff;
mod inspect;
mod list;
mod new;
mod pack;
mod push;
pub(super) mod source;

use super::{Context, Exit, Failure};
use clap::{Args, Subcommand};
use fieldpost_shared::id::ModelName;
use std::path::PathBuf;

pub use pack::PackArgs;

/// Arguments of `bundle`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fieldpost bundle new models/digits
  fieldpost bundle pack models/digits
  fieldpost bundle push digits-1.0.0.fieldpost
  fieldpost bundle list")]
pub struct BundleArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BundleCommand,
}

/// What can be done with bundles.
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Write a commented bundle.toml into a folder, and a made-up sample beside a model without data
    #[command(after_help = "Example:\n  fieldpost bundle new models/digits")]
    New {
        /// The folder; it is made if need be
        dir: PathBuf,
    },
    /// Check the model, run the reference data, and write one signed file
    #[command(after_help = "Examples:
  fieldpost bundle pack models/digits
  fieldpost bundle pack models/digits --key publisher.key --out release/
  fieldpost bundle pack models/digits --created 2026-11-01T00:00:00Z")]
    Pack(PackArgs),
    /// Show what a bundle holds
    #[command(after_help = "Examples:
  fieldpost bundle inspect digits-1.0.0.fieldpost
  fieldpost bundle inspect digits@1.0.0 --output json")]
    Inspect {
        /// A bundle file, or NAME@VERSION in the controller
        bundle: String,
    },
    /// Check every byte and every signature of a bundle
    #[command(after_help = "Examples:
  fieldpost bundle verify digits-1.0.0.fieldpost
  fieldpost bundle verify digits-1.0.0.fieldpost --root 3.root.json")]
    Verify {
        /// A bundle file
        file: PathBuf,
        /// The root of trust [default: the newest of the controller on this machine]
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
    },
    /// Add a signature to a bundle that several publishers must sign
    #[command(after_help = "Example:\n  fieldpost bundle sign digits-1.0.0.fieldpost --key second.key")]
    Sign {
        /// A bundle file, changed in place
        file: PathBuf,
        /// Publisher keys to sign with
        #[arg(long, required = true, value_name = "FILE")]
        key: Vec<PathBuf>,
    },
    /// Hand a bundle to the controller; only chunks that it lacks are sent
    #[command(after_help = "Example:\n  fieldpost bundle push digits-1.0.0.fieldpost")]
    Push {
        /// A bundle file
        file: PathBuf,
    },
    /// List the releases in the controller
    #[command(after_help = "Examples:\n  fieldpost bundle list\n  fieldpost bundle list digits --output json")]
    List {
        /// Only releases of this model
        model: Option<ModelName>,
    },
    /// Show where the releases of a model come from: parents, data, metrics, who signed
    #[command(after_help = "Example:\n  fieldpost bundle history digits")]
    History {
        /// The model
        model: ModelName,
    },
    /// Show what differs between two releases, and how many bytes a device would fetch
    #[command(after_help = "Examples:
  fieldpost bundle diff digits@1.0.0 digits@1.1.0
  fieldpost bundle diff digits-1.0.0.fieldpost digits-1.1.0.fieldpost")]
    Diff {
        /// A bundle file, or NAME@VERSION in the controller
        old: String,
        /// A bundle file, or NAME@VERSION in the controller
        new: String,
    },
}

/// Runs a `bundle` command.
///
/// # Errors
/// When a file, the model or the controller refuses.
pub async fn run(args: BundleArgs, context: &Context) -> Result<Exit, Failure> {
    match args.command {
        BundleCommand::New { dir } => new::new(&dir, context).await,
        BundleCommand::Pack(args) => pack::run(args, context).await,
        BundleCommand::Inspect { bundle } => inspect::inspect(&source::load(&bundle, context).await?, context),
        BundleCommand::Verify { file, root } => inspect::verify(&file, root.as_deref(), context),
        BundleCommand::Sign { file, key } => inspect::sign(&file, &key, context),
        BundleCommand::Push { file } => push::push(&file, context).await,
        BundleCommand::List { model } => list::list(model.as_ref(), context).await,
        BundleCommand::History { model } => list::history(&model, context).await,
        BundleCommand::Diff { old, new } => {
            let (old, new) = (source::load(&old, context).await?, source::load(&new, context).await?);
            diff::diff(&old, &new, context)
        }
    }
}
