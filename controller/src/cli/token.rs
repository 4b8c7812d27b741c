//! `fieldpost token`: what lets devices in, and what opens the API.

use super::{Context, Exit, Failure, output};
use crate::api::types::{Role, TokenCreated, TokenInfo, TokenKind, TokenRequest};
use crate::rollout::duration;
use clap::{Args, Subcommand};
use fieldpost_shared::time::Timestamp;
use std::time::Duration;

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  fieldpost token create enroll --uses 40 --label site=lyon --expires-in 7d
  fieldpost token create api --role publisher --note ci
  fieldpost token list"
)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; its text is shown this once
    #[command(
        arg_required_else_help = true,
        after_help = "Examples:
  fieldpost token create enroll
  fieldpost token create api --role viewer --expires-in 30d"
    )]
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
pub struct CreateArgs {
    /// What the token opens.
    #[command(subcommand)]
    pub kind: CreateKind,
}

/// What a new token opens.
#[derive(Debug, Subcommand)]
pub enum CreateKind {
    /// A token that lets devices into the fleet
    #[command(after_help = "Example:\n  fieldpost token create enroll --uses 40 --label site=lyon --expires-in 7d")]
    Enroll {
        /// How many devices
        #[arg(long, default_value_t = 1, value_name = "N")]
        uses: u32,
        /// A label for every device that comes in with it; may be repeated
        #[arg(long, value_name = "NAME=VALUE")]
        label: Vec<String>,
        /// How long it opens anything
        #[arg(long, default_value = "1d", value_name = "TIME", value_parser = duration::parse)]
        expires_in: Duration,
        /// For people
        #[arg(long, default_value = "", hide_default_value = true)]
        note: String,
    },
    /// A token that opens the API in a role
    #[command(after_help = "Example:\n  fieldpost token create api --role publisher --note ci --expires-in 90d")]
    Api {
        /// What its holder may do
        #[arg(long)]
        role: RoleName,
        /// How long it opens anything [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        expires_in: Option<Duration>,
        /// For people
        #[arg(long, default_value = "", hide_default_value = true)]
        note: String,
    },
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
        TokenCommand::Create(CreateArgs { kind }) => {
            let request = request(kind)?;
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
            context.note(&format!("revoked token {id}"));
            Ok(Exit::Done)
        }
    }
}

fn request(kind: CreateKind) -> Result<TokenRequest, Failure> {
    match kind {
        CreateKind::Enroll { uses, label, expires_in, note } => {
            let pair = |text: &String| match text.split_once('=') {
                Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
                _ => Err(Failure::usage(format!("`{text}` is no label")).hint("labels are name=value")),
            };
            let labels = label.iter().map(pair).collect::<Result<_, _>>()?;
            Ok(TokenRequest { kind: TokenKind::Enroll { uses, labels }, note, expires_s: Some(expires_in.as_secs()) })
        }
        CreateKind::Api { role, expires_in, note } => {
            let expires_s = expires_in.map(|duration| duration.as_secs());
            Ok(TokenRequest { kind: TokenKind::Api { role: role.into() }, note, expires_s })
        }
    }
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

    #[test]
    fn an_enrolment_token_carries_its_labels() {
        let enroll = |label: &str| CreateKind::Enroll {
            uses: 2,
            label: vec![label.to_owned()],
            expires_in: Duration::from_secs(60),
            note: String::new(),
        };
        let request = request(enroll("site=lyon")).unwrap();
        assert_eq!(request.expires_s, Some(60));
        let TokenKind::Enroll { labels, .. } = request.kind else { panic!("enroll") };
        assert_eq!(labels["site"], "lyon");
        assert_eq!(super::request(enroll("=x")).unwrap_err().exit(), Exit::Usage);
    }
}
