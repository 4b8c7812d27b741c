//! Python and the clients from PyPI that the suite speaks with: installed once, beside what cargo builds.

use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// Set on CI: a peer that is missing fails the run.
const REQUIRED: &str = "FIELDPOST_REQUIRE_PEERS";

/// The folder of the client suite.
#[must_use]
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// A Python with the packages of `clients/requirements.txt`. None, said loudly, where it cannot be made and need not be.
///
/// # Errors
/// When it is demanded (`REQUIRED`) and cannot be made.
pub async fn with_clients() -> anyhow::Result<Option<PathBuf>> {
    match environment().await {
        Ok(python) => Ok(Some(python)),
        Err(error) if std::env::var_os(REQUIRED).is_none() => {
            eprintln!("PASSED OVER: the clients from PyPI are not tested: {error:#}");
            Ok(None)
        }
        Err(error) => Err(error.context(format!("the clients from PyPI are missing, and {REQUIRED} demands them"))),
    }
}

/// The environment is kept until the requirements change.
async fn environment() -> anyhow::Result<PathBuf> {
    let requirements = clients().join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).context("cannot read the requirements")?;
    let dir = crate::field::exe_dir().join("client-venv");
    let (python, made) = (dir.join("bin/python"), dir.join("made-of.txt"));
    if std::fs::read_to_string(&made).is_ok_and(|made| made == wanted) && python.exists() {
        return Ok(python);
    }
    drop(std::fs::remove_dir_all(&dir));
    run(Command::new("python3").arg("-m").arg("venv").arg(&dir)).await?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(&python).args(pip).arg(&requirements)).await?;
    std::fs::write(&made, wanted).context("cannot note what was installed")?;
    Ok(python)
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
    if !output.status.success() {
        bail!("{:?}: {}", command.as_std(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
