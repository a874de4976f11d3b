//! `portolan acme`

use std::process::ExitCode;

use anyhow::Result;

use super::client::Client;
use super::node::NodeOptions;
use super::overrides::time;
use crate::api::dto;

#[derive(Debug, clap::Subcommand)]
pub(super) enum AcmeCommand {
    /// Answer `_acme-challenge.NAME` TXT with a token, for an ACME client that runs elsewhere
    #[command(after_help = node_help!("portolan acme set www.example.com LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"))]
    Set(Set),
}

#[derive(Debug, clap::Args)]
pub(super) struct Set {
    /// The name that the certificate is for
    name: String,
    /// The text of the TXT record
    #[arg(value_name = "TOKEN", allow_hyphen_values = true)]
    value: String,
    /// Remove it after this time [default: 10m]
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    lasts: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

pub(super) fn set(client: &Client, arguments: Set) -> Result<ExitCode> {
    let Set { name, value, lasts, json, .. } = arguments;
    let shown: dto::Challenge = client.post("/v1/acme", &dto::AcmeRequest { name, token: value, lasts })?;
    if json {
        say!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        say!("{} TXT \"{}\" until {}", shown.name, shown.value, shown.until);
    }
    Ok(ExitCode::SUCCESS)
}
