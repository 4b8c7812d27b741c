//! A person sees what a start would do before it is done, and says so; a script is not asked.

use super::super::{Context, Failure, output};
use super::show;
use super::start::How;
use crate::client::Client;
use crate::rollout::preview::StartPreview;
use crate::rollout::start::StartRequest;
use std::io::{self, BufRead};

/// What the controller would make of a start; it refuses what the start would be refused for.
pub(super) async fn preview(client: &Client, request: &StartRequest) -> Result<StartPreview, Failure> {
    let operation = format!("try the start of {}@{}", request.model, request.version);
    Ok(client.post_with(&operation, &["v1", "rollouts"], &[("dry_run", "true")], request).await?)
}

/// Lets a person at a terminal read the plan and say yes; with `--yes`, in a pipe or for JSON nobody is asked.
pub(super) async fn agreed(
    args: &How,
    request: &StartRequest,
    client: &Client,
    context: &Context,
) -> Result<(), Failure> {
    if args.yes || !context.can_ask() {
        return Ok(());
    }
    let plan = preview(client, request).await?;
    output::note(&show::preview(&plan));
    output::note(&format!("\nStart the rollout of {}? [y/N]", plan.release));
    let answer = tokio::task::spawn_blocking(|| is_yes(&mut io::stdin().lock())).await;
    let refuse = || Failure::new(format!("the rollout of {} was not started", plan.release));
    match answer {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => {
            Err(refuse().because_text("the question was not answered with yes").hint("--yes asks nothing"))
        }
        Ok(Err(error)) => Err(refuse().because(&error).hint("--yes asks nothing")),
        Err(error) => Err(refuse().because(&error)),
    }
}

/// Reads one line: `y` or `yes`, in any case. Everything else is no, the end of the input too.
fn is_yes(input: &mut impl BufRead) -> io::Result<bool> {
    /// A longer answer is no.
    const LONGEST: u64 = 16;
    let mut line = Vec::new();
    io::Read::take(&mut *input, LONGEST).read_until(b'\n', &mut line)?;
    let said = line.trim_ascii();
    Ok(said.eq_ignore_ascii_case(b"y") || said.eq_ignore_ascii_case(b"yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        let check = |typed: &[u8], expected: bool| assert_eq!(is_yes(&mut &*typed).unwrap(), expected, "{typed:?}");
        check(b"y\n", true);
        check(b" YES \r\n", true);
        check(b"yes", true);
        check(b"", false);
        check(b"\n", false);
        check(b"n\ny\n", false);
        check(b"yesterday\n", false);
        check(&[b'y'; 1 << 20], false);
        check(&[0xff, b'\n'], false);
    }
}
