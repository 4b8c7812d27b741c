//! `fieldpost demo`: a controller and a fleet of agents, all real processes on this machine, through a good release, a
//! better one, and a harmful one that no self-test sees. It succeeds only when all of it was observed.

mod acts;
pub mod assets;
pub mod process;
mod summary;
mod timeline;
pub mod traffic;

use crate::cli::output::Format;
use crate::cli::{Context, Exit, Failure};
use acts::Stage;
use clap::Args;
use std::path::PathBuf;

/// Flags of `demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  fieldpost demo                               12 devices, under a minute
  fieldpost demo --devices 4 --keep            and leave them running to look around

Exit codes: 0 everything was observed as it should be · 1 something was not")]
pub struct DemoArgs {
    /// Devices
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(4..=60), value_name = "N")]
    pub devices: u16,
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Work in this directory, and leave it [default: a temporary one that is removed]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Runs the demo.
///
/// # Errors
/// When a process does not come up, or a step does not end.
pub async fn run(args: DemoArgs, context: &Context) -> Result<Exit, Failure> {
    perform(args, context.format()).await.map_err(|error| {
        Failure::new("the demo did not come to its end")
            .because_text(format!("{error:#}"))
            .hint("run it again with --dir DIR and read the logs there; on a very busy machine try --devices 4")
    })
}

async fn perform(args: DemoArgs, format: Format) -> anyhow::Result<Exit> {
    let temporary;
    let (dir, keeps) = match &args.dir {
        Some(dir) => (dir.clone(), true),
        None => {
            temporary = Temporary::new()?;
            (temporary.0.clone(), false)
        }
    };
    let timeline = timeline::Timeline::new(format == Format::Table);
    timeline.title(&format!(
        "fieldpost demo: {} devices, real processes on this machine, real digits. Logs: {}{}",
        args.devices,
        dir.display(),
        if keeps || args.keep { "" } else { " (until the end)" }
    ));
    let mut stage = Stage::build(&dir, usize::from(args.devices), timeline).await?;
    let result = stage.play().await;
    let story = match result {
        Ok(story) => story,
        Err(error) => {
            stage.clear().await;
            return Err(error);
        }
    };
    summary::print(&story, format)?;
    if args.keep {
        stage.timeline().title(&stage.how_to_look_around());
        tokio::signal::ctrl_c().await?;
    }
    stage.clear().await;
    Ok(if story.checks.iter().all(|check| check.observed) { Exit::Done } else { Exit::Failed })
}

/// A directory that goes with its handle.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> anyhow::Result<Self> {
        let mut random = [0; 6];
        getrandom::fill(&mut random)?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let dir = std::env::temp_dir().join(format!("fieldpost-demo-{name}"));
        std::fs::create_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
