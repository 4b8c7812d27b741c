//! `fieldpost audit`: who did what, when; and whether somebody changed the log since.

use super::{Context, Exit, Failure, output};
use crate::api::types::AuditEntry;
use crate::audit::verify;
use clap::Args;

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fieldpost audit
  fieldpost audit --after 1200 --output json
  fieldpost audit --verify")]
pub struct AuditArgs {
    /// Only entries after this number
    #[arg(long, default_value_t = 0, value_name = "NUMBER", conflicts_with = "verify")]
    pub after: u64,
    /// Read the whole log and check that each entry follows from the one before
    #[arg(long)]
    pub verify: bool,
}

/// Prints or checks the log.
///
/// # Errors
/// When the controller cannot be reached or refuses, or the log was changed.
pub async fn run(args: AuditArgs, context: &Context) -> Result<Exit, Failure> {
    let client = context.client()?;
    let mut entries: Vec<AuditEntry> = Vec::new();
    let mut after = args.after;
    // The controller answers a page at a time; an empty one is the end.
    loop {
        let text = after.to_string();
        let page: Vec<AuditEntry> = client.get("read the audit log", &["v1", "audit"], &[("after", &text)]).await?;
        let Some(last) = page.last().map(|entry| entry.number).filter(|last| *last > after) else { break };
        after = last;
        entries.extend(page);
    }
    if args.verify {
        verify(None, &entries).map_err(|error| {
            Failure::new("the audit log does not hold together")
                .because(&error)
                .hint("compare with a backup; entries before this one are as they were written")
        })?;
        let checked = serde_json::json!({ "entries": entries.len(), "verified": true });
        return context.done(&checked, &format!("{} entries, each follows from the one before", entries.len()));
    }
    context.show(&entries, |entries| table(entries))
}

fn table(entries: &[AuditEntry]) -> String {
    let rows = entries.iter().map(|entry| {
        let AuditEntry { number, at, actor, action, subject, detail, .. } = entry;
        vec![number.to_string(), at.to_string(), actor.clone(), action.clone(), subject.clone(), detail.clone()]
    });
    output::table(&["number", "at", "who", "what", "on", "detail"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::id::Digest;
    use fieldpost_shared::time::Timestamp;

    #[test]
    fn the_log_as_a_table() {
        let entry = AuditEntry {
            number: 7,
            at: Timestamp::from_millis(1_800_000_000_000),
            actor: "0a1b2c3d (admin)".into(),
            action: "device.revoke".into(),
            subject: "box-17".into(),
            detail: String::new(),
            previous: Digest::of(b"6"),
            hash: Digest::of(b"7"),
        };
        insta::assert_snapshot!(table(&[entry]), @r"
        NUMBER  AT                        WHO               WHAT           ON      DETAIL
        7       2027-01-15T08:00:00.000Z  0a1b2c3d (admin)  device.revoke  box-17
        ");
    }
}
