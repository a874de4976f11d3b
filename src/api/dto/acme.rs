//! `POST /v1/acme` and what status says about ACME.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{self, Proof};
use crate::state::timestamp;

/// `POST /v1/acme`: shows the DNS challenge of an ACME client (RFC 8555 §8.4) that runs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeRequest {
    /// The name that the certificate is for; the record is at `_acme-challenge.NAME`.
    pub name: String,
    /// The text of the record: base64url.
    pub token: String,
    /// For how long, such as "10m", which is the default.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
}

/// A challenge that the node shows to ACME servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Challenge {
    /// The owner of a TXT record, or the token of an HTTP challenge.
    pub name: String,
    /// The text of the record, or the body of the response.
    pub value: String,
    /// Who asked for it.
    pub by: String,
    /// When it is forgotten.
    pub until: String,
}

impl From<&model::Challenge> for Challenge {
    fn from(challenge: &model::Challenge) -> Self {
        let (name, value) = match &challenge.proof {
            Proof::Http { token, body } => (token.as_str().to_owned(), body.clone()),
            Proof::Dns { owner, value } => (owner.to_string(), value.as_str().to_owned()),
        };
        Self { name, value, by: challenge.by.clone(), until: timestamp(challenge.until) }
    }
}

/// A certificate of the proxy that the node obtains itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// What it is for.
    pub names: Vec<String>,
    /// Where it is kept.
    pub file: String,
    /// When the one in use expires; absent if there is none.
    pub expires: Option<String>,
    /// When a new one is obtained, or tried to be; absent while that goes on.
    pub next: Option<String>,
    /// Why the last attempt failed, as a clause; absent if it did not.
    pub error: Option<String>,
    /// Since when all attempts have failed.
    pub failing_since: Option<String>,
}
