//! `GET /v1/audit`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Override;
use crate::model::AuditRecord;
use crate::state::timestamp;

/// `GET /v1/audit`: a change that somebody asked for, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Greater than those of all earlier entries.
    pub id: u64,
    /// When it was asked for; the first time, if `count` is more than 1.
    pub at: String,
    /// The last time.
    pub last: String,
    /// How many requests the entry stands for: what is refused again and again within a minute is one entry.
    pub count: u64,
    /// Who asked for it: "token NAME", "user NAME", "uid NUMBER", "certificate SUBJECT", "SIGHUP", or "no token".
    pub who: String,
    /// From where: an address, "socket" or "signal"; for requests without a token several addresses without ports.
    pub from: String,
    /// What was asked for.
    pub action: AuditAction,
    /// Of what: region/NAME and the like, the number of an override, or a domain name.
    pub target: Option<String>,
    /// The parameters of the request, as it has them; absent for requests without a token.
    #[serde(default)]
    pub parameters: Option<Value>,
    /// The reason that was given.
    pub reason: Option<String>,
    /// What came of it.
    pub result: AuditResult,
    /// Why it was refused or failed.
    pub why: Option<String>,
    /// What it replaced or removed.
    pub before: Option<AuditState>,
    /// What it made.
    pub after: Option<AuditState>,
}

/// What a change replaced or made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditState {
    /// An override.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Override>,
    /// The epoch at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The SHA-256 of the config with the texts that it names, such as zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditAction {
    /// `POST /v1/overrides`
    SetOverride,
    /// `DELETE /v1/overrides/{id}`
    RemoveOverride,
    /// `POST /v1/reload`, or SIGHUP.
    Reload,
    /// `POST /v1/acme`
    ShowChallenge,
    /// Something else; the target is the path.
    #[serde(other)]
    Other,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditResult {
    /// It was done.
    Accepted,
    /// Nothing was changed.
    Refused,
    /// The node could not say: it may have been done.
    Failed,
}

impl From<&AuditRecord> for AuditEntry {
    fn from(record: &AuditRecord) -> Self {
        let json = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let state = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let term = |name: &str| Value::from(name);
        Self {
            id: record.id,
            at: timestamp(record.at),
            last: timestamp(record.last),
            count: record.count,
            who: record.who.clone(),
            from: record.origin.clone(),
            action: serde_json::from_value(term(&record.action)).unwrap_or(AuditAction::Other),
            target: record.target.clone(),
            parameters: json(&record.parameters),
            reason: record.reason.clone(),
            result: serde_json::from_value(term(&record.result)).unwrap_or(AuditResult::Failed),
            why: record.why.clone(),
            before: state(&record.before),
            after: state(&record.after),
        }
    }
}
