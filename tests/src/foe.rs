//! A second MQTT client that means harm: it reads everything it may and publishes what it likes.

use anyhow::Context as _;
use bytes::Bytes;
use fieldpost_agent::link::{ConnectOptions, Connection, Incoming};
use std::collections::HashMap;
use std::time::Duration;

/// A hostile client. It needs a broker without access lists: that the messages are refused nevertheless is the point.
#[derive(Debug)]
pub struct Foe {
    connection: Connection,
    seen: HashMap<String, Vec<Bytes>>,
}

impl Foe {
    /// Connects and listens to everything.
    ///
    /// # Errors
    /// When the broker does not let it.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let (host, port) = url.trim_start_matches("mqtt://").rsplit_once(':').context("no port in the URL")?;
        let connection = Connection::open(ConnectOptions {
            host: host.to_owned(),
            port: port.parse()?,
            tls: None,
            client_id: "foe".to_owned(),
            login: None,
            keep_alive: Duration::from_secs(30),
            will: None,
            inflight: 10,
        })
        .await?;
        connection.subscribe(["#".to_owned()])?;
        Ok(Self { connection, seen: HashMap::new() })
    }

    /// Listens for a while.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn listen(&mut self, time: Duration) -> anyhow::Result<()> {
        let listening = async {
            loop {
                match self.connection.next().await {
                    Some(Incoming::Message { topic, payload, .. }) => self.seen.entry(topic).or_default().push(payload),
                    Some(Incoming::Lost(error)) => return Err(anyhow::Error::from(error)),
                    Some(_) => {}
                    None => anyhow::bail!("the foe's connection is over"),
                }
            }
        };
        match tokio::time::timeout(time, listening).await {
            Ok(result) => result,
            Err(_elapsed) => Ok(()),
        }
    }

    /// What it saw on a topic, oldest first.
    #[must_use]
    pub fn seen(&self, topic: &str) -> &[Bytes] {
        self.seen.get(topic).map_or(&[], Vec::as_slice)
    }

    /// Every topic on which it saw something.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.seen.keys().map(String::as_str)
    }

    /// Publishes.
    ///
    /// # Errors
    /// When the line is stuck.
    pub fn say(&self, topic: &str, payload: &[u8], retain: bool) -> anyhow::Result<()> {
        Ok(self.connection.publish(topic.to_owned(), payload.to_vec(), retain)?)
    }
}
