//! What AWS says before it takes a spot instance back.

use std::fmt;

use serde::Deserialize;

use super::{service, token, token_header};
use crate::metadata::{MetadataError, Service, json};
use crate::surroundings::Surroundings;

const LIFE_CYCLE: &str = "/latest/meta-data/instance-life-cycle";
const INTERRUPTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";

/// Which notice it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeKind {
    /// The instance ends, stops or hibernates in two minutes.
    Interruption,
    /// The instance is likelier than others to be taken back; nobody says when.
    Rebalance,
}

impl fmt::Display for NoticeKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Interruption => "interruption",
            Self::Rebalance => "rebalance",
        })
    }
}

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Which one.
    pub kind: NoticeKind,
    /// What will be done (`terminate`, `stop`, `hibernate`), or is recommended (`rebalance`).
    pub action: String,
    /// When it will be done, or was recommended, as AWS writes it.
    pub time: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    action: Option<String>,
    time: Option<String>,
    notice_time: Option<String>,
}

/// Asks for notices.
#[derive(Debug)]
pub struct Notices {
    service: Service,
    token: Option<String>,
}

impl Notices {
    /// Takes up where to ask; asks nothing yet.
    pub fn open(surroundings: &dyn Surroundings) -> Result<Self, MetadataError> {
        Ok(Self { service: service(surroundings)?, token: None })
    }

    /// Says whether this is a spot instance: no other is told anything.
    pub async fn are_given(&mut self) -> Result<bool, MetadataError> {
        Ok(self.ask(LIFE_CYCLE).await?.is_some_and(|text| text.trim() == "spot"))
    }

    /// Returns the notices that stand now, the most urgent first. Takes 4 s at most; cancel-safe.
    pub async fn look(&mut self) -> Result<Vec<Notice>, MetadataError> {
        let mut found = Vec::new();
        for (kind, path) in [(NoticeKind::Interruption, INTERRUPTION), (NoticeKind::Rebalance, REBALANCE)] {
            if let Some(text) = self.ask(path).await? {
                found.push(read(kind, &json(&self.service.url(path), &text)?));
            }
        }
        Ok(found)
    }

    /// Asks for one document; `None`: there is none.
    async fn ask(&mut self, path: &str) -> Result<Option<String>, MetadataError> {
        let held = match self.token.take() {
            Some(token) => token,
            None => self.new_token().await?,
        };
        let mut answer = self.service.get(path, &[token_header(&held)]).await;
        self.token = Some(held);
        if matches!(&answer, Err(MetadataError::Denied { status, .. }) if status.as_u16() == 401) {
            // It has expired: a token is good for six hours.
            let fresh = self.new_token().await?;
            answer = self.service.get(path, &[token_header(&fresh)]).await;
            self.token = Some(fresh);
        }
        match answer {
            Ok(text) => Ok(Some(text)),
            Err(MetadataError::Denied { status, .. }) if status.as_u16() == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn new_token(&self) -> Result<String, MetadataError> {
        let url = self.service.url("/latest/api/token");
        token(&self.service).await.map_err(|reason| MetadataError::Unreachable { url, reason })
    }
}

fn read(kind: NoticeKind, document: &Document) -> Notice {
    let clean = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        text.chars().filter(|character| !character.is_control()).take(64).collect::<String>()
    };
    match kind {
        NoticeKind::Interruption => Notice { kind, action: clean(&document.action), time: clean(&document.time) },
        NoticeKind::Rebalance => Notice { kind, action: "rebalance".to_owned(), time: clean(&document.notice_time) },
    }
}
