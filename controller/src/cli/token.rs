//! `fieldpost token`: what lets devices in, and what opens the API.

use super::{Context, Exit, Failure, output};
use crate::api::types::{Role, TokenCreated, TokenInfo, TokenKind, TokenRequest};
use crate::rollout::duration;
use clap::{Args, Subcommand};
use fieldpost_shared::time::Timestamp;
use std::time::Duration;

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fieldpost token create --enroll --uses 40 --label site=lyon --expires-in 7d
  fieldpost token create --role publisher --note ci
  fieldpost token list")]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; its text is shown this once
    #[command(after_help = "Examples:
  fieldpost token create --enroll
  fieldpost token create --enroll --uses 40 --label site=lyon --expires-in 7d
  fieldpost token create --role publisher --note ci --expires-in 90d")]
    Create(CreateArgs),
    /// List tokens: what they open, until when, how often they were used
    #[command(after_help = "Example:\n  fieldpost token list")]
    List,
    /// Make a token open nothing any more
    #[command(after_help = "Example:\n  fieldpost token revoke 3fb1c9d2")]
    Revoke {
        /// The token's id, as `token list` shows it
        id: String,
    },
}

/// Arguments of `token create`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("kind").required(true).args(["enroll", "role"])))]
pub struct CreateArgs {
    /// A token that lets devices into the fleet
    #[arg(long)]
    pub enroll: bool,
    /// A token that opens the API in this role
    #[arg(long)]
    pub role: Option<RoleName>,
    /// How many devices an enrolment token lets in
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with = "role")]
    pub uses: u32,
    /// A label for every device that comes in with it; may be repeated
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "role")]
    pub label: Vec<String>,
    /// How long it opens anything [default: 1d for enrolment; else until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub expires_in: Option<Duration>,
    /// For people
    #[arg(long, default_value = "", hide_default_value = true)]
    pub note: String,
}

/// A role, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RoleName {
    /// Reads everything
    Viewer,
    /// Labels devices and drives rollouts
    Operator,
    /// Pushes releases
    Publisher,
    /// Everything
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Publisher => Self::Publisher,
            RoleName::Admin => Self::Admin,
        }
    }
}

/// Makes, lists or revokes tokens.
///
/// # Errors
/// When the controller cannot be reached or refuses.
pub async fn run(args: TokenArgs, context: &Context) -> Result<Exit, Failure> {
    let client = context.client()?;
    match args.command {
        TokenCommand::Create(args) => {
            let request = request(args)?;
            let created: TokenCreated = client.post("create a token", &["v1", "tokens"], &request).await?;
            // The text alone on stdout, so that a script can take it; the rest is for people.
            context.note(&format!(
                "token {}: {}; this is the only time it is shown",
                created.info.id,
                opens(&created.info)
            ));
            context.show(&created, |created| created.token.clone())
        }
        TokenCommand::List => {
            let tokens: Vec<TokenInfo> = client.get("list tokens", &["v1", "tokens"], &[]).await?;
            context.show(&tokens, |tokens| list(tokens, context.clock().now()))
        }
        TokenCommand::Revoke { id } => {
            client.delete(&format!("revoke token {id}"), &["v1", "tokens", &id]).await?;
            context.done(&serde_json::json!({ "revoked": id }), &format!("revoked token {id}"))
        }
    }
}

fn request(args: CreateArgs) -> Result<TokenRequest, Failure> {
    let CreateArgs { role, uses, label, expires_in, note, enroll: _ } = args;
    let expires_s = expires_in.map(|duration| duration.as_secs());
    if let Some(role) = role {
        return Ok(TokenRequest { kind: TokenKind::Api { role: role.into() }, note, expires_s });
    }
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("`{text}` is no label")).hint("labels are name=value")),
    };
    let labels = label.iter().map(pair).collect::<Result<_, _>>()?;
    Ok(TokenRequest { kind: TokenKind::Enroll { uses, labels }, note, expires_s })
}

fn opens(token: &TokenInfo) -> String {
    match &token.kind {
        TokenKind::Enroll { uses, labels } => {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            format!("enrols {uses} device(s){}", labels.concat())
        }
        TokenKind::Api { role } => format!("opens the API as {role}"),
    }
}

fn list(tokens: &[TokenInfo], now: Timestamp) -> String {
    let rows = tokens.iter().map(|token| {
        let expires = match token.expires {
            None => "never".to_owned(),
            Some(expires) if expires <= now => "expired".to_owned(),
            Some(expires) => format!("in {}", output::span(expires.since(now))),
        };
        let used = match &token.kind {
            TokenKind::Enroll { uses, .. } => format!("{} of {uses}", token.used),
            TokenKind::Api { .. } => String::new(),
        };
        vec![token.id.clone(), opens(token), used, expires, output::ago(Some(token.created), now), token.note.clone()]
    });
    output::table(&["id", "opens", "used", "expires", "created", "note"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[test]
    fn tokens_at_a_glance() {
        let token = |id: &str, kind, expires_s: Option<u64>| TokenInfo {
            id: id.into(),
            kind,
            note: "ci".into(),
            created: NOW.minus(Duration::from_secs(60)),
            expires: expires_s.map(|s| NOW.plus(Duration::from_secs(s))),
            used: 3,
        };
        let labels = [("site".to_owned(), "lyon".to_owned())].into();
        let tokens = [
            token("0a1b2c3d", TokenKind::Enroll { uses: 40, labels }, Some(7_200)),
            token("4e5f6a7b", TokenKind::Api { role: Role::Publisher }, None),
            token("8c9d0e1f", TokenKind::Enroll { uses: 1, labels: [].into() }, Some(0)),
        ];
        insta::assert_snapshot!(list(&tokens, NOW), @r"
        ID        OPENS                          USED     EXPIRES  CREATED    NOTE
        0a1b2c3d  enrols 40 device(s) site=lyon  3 of 40  in 2 h   1 min ago  ci
        4e5f6a7b  opens the API as publisher              never    1 min ago  ci
        8c9d0e1f  enrols 1 device(s)             3 of 1   expired  1 min ago  ci
        ");
    }

    fn parsed(line: &str) -> Result<TokenRequest, String> {
        let words = ["fieldpost", "token", "create"].into_iter().chain(line.split_whitespace());
        let cli = super::super::Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let super::super::Command::Token(TokenArgs { command: TokenCommand::Create(args) }) = cli.command else {
            panic!("{line}")
        };
        request(args).map_err(|failure| failure.to_string())
    }

    #[test]
    fn an_enrolment_token_carries_its_labels() {
        let request = parsed("--enroll --uses 2 --label site=lyon --expires-in 1m").unwrap();
        assert_eq!(request.expires_s, Some(60));
        let labels = [("site".to_owned(), "lyon".to_owned())].into();
        assert_eq!(request.kind, TokenKind::Enroll { uses: 2, labels });
        assert!(parsed("--enroll --label =x").unwrap_err().contains("no label"));
    }

    #[test]
    fn a_token_is_for_devices_or_for_the_api() {
        assert_eq!(parsed("--role viewer").unwrap().kind, TokenKind::Api { role: Role::Viewer });
        for wrong in ["--uses 2", "--enroll --role viewer", "--role viewer --uses 2", "--role root"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
