//! Targets as they are typed: whole, or a name alone where the node knows only one target with it.

use anyhow::Result;

use super::client::{Client, ClientError};
use crate::api::dto;
use crate::model::{Target, TargetError};

/// The most targets that an error lists.
const LISTED: usize = 10;

/// The target as the API writes it, or a name alone.
pub(super) fn target(text: &str) -> Result<String, TargetError> {
    match text.parse::<Target>() {
        Ok(target) => Ok(target.to_string()),
        Err(_) if !text.is_empty() && !text.contains('/') => Ok(text.to_owned()),
        Err(error) => Err(error),
    }
}

/// The whole target; a name alone is that of the one target of the node that has it.
///
/// # Errors
/// If several have it, or the node cannot be asked.
pub(super) fn whole(client: &Client, typed: String) -> Result<String> {
    if typed.contains('/') { Ok(typed) } else { only(&typed, &targets(&client.status()?)) }
}

/// The same among the targets of overrides.
///
/// # Errors
/// If several have it.
pub(super) fn whole_of(overrides: &[dto::Override], typed: String) -> Result<String> {
    let targets: Vec<String> = overrides.iter().map(|it| it.target.clone()).collect();
    if typed.contains('/') { Ok(typed) } else { only(&typed, &targets) }
}

/// A name that no target has is taken for that of a region: what says that there is none lists those that exist.
fn only(name: &str, targets: &[String]) -> Result<String> {
    let found: Vec<&str> = targets.iter().map(String::as_str).filter(|it| has_name(it, name)).collect();
    match found[..] {
        [] => Ok(format!("region/{name}")),
        [only] => Ok(only.to_owned()),
        _ => {
            let listed = found[..found.len().min(LISTED)].join(", ");
            let more = found.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Err(ClientError::Usage(format!("`{name}` is not one target: write which of {listed}{more}"))
                .into())
        }
    }
}

/// Whether a target is called so: a region, an endpoint, a service, a pool or a backend.
fn has_name(target: &str, name: &str) -> bool {
    match target.split('/').collect::<Vec<_>>()[..] {
        ["region", region] => region == name,
        ["endpoint", _, endpoint] => endpoint == name,
        ["service", service, _] => service.eq_ignore_ascii_case(name.trim_end_matches('.')),
        ["pool", pool, backend] => pool == name || backend == name,
        _ => false,
    }
}

/// Every target of a node.
fn targets(status: &dto::Status) -> Vec<String> {
    let regions = status.regions.iter().map(|region| format!("region/{}", region.name));
    let endpoints = status.regions.iter().flat_map(|region| {
        region.endpoints.iter().map(|endpoint| format!("endpoint/{}/{}", region.name, endpoint.name))
    });
    let services = status.services.iter().flat_map(|service| {
        let name = service.name.trim_end_matches('.');
        service.regions.iter().map(move |region| format!("service/{name}/{}", region.name))
    });
    let backends = status
        .pools
        .iter()
        .flat_map(|pool| pool.backends.iter().map(|backend| format!("pool/{}/{}", pool.name, backend.name)));
    let mut all: Vec<String> = regions.chain(endpoints).chain(services).chain(backends).collect();
    // Services of one name and several types are one target.
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|it| seen.insert(it.clone()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_the_one_target_that_has_it() {
        let targets = [
            "region/eu",
            "region/us",
            "endpoint/eu/lb1",
            "endpoint/us/lb1",
            "endpoint/us/edge",
            "service/www.example.test/eu",
            "service/www.example.test/us",
            "service/api.example.test/us",
            "pool/web/10.0.0.1:80",
            "pool/web/10.0.0.2:80",
            "pool/us/10.0.0.3:80",
        ]
        .map(str::to_owned);
        for (name, expected) in [
            ("eu", Ok("region/eu")),
            ("edge", Ok("endpoint/us/edge")),
            ("API.example.test.", Ok("service/api.example.test/us")),
            ("10.0.0.2:80", Ok("pool/web/10.0.0.2:80")),
            ("mars", Ok("region/mars")),
            ("us", Err("`us` is not one target: write which of region/us, pool/us/10.0.0.3:80")),
            ("lb1", Err("`lb1` is not one target: write which of endpoint/eu/lb1, endpoint/us/lb1")),
            (
                "www.example.test",
                Err("`www.example.test` is not one target: write which of service/www.example.test/eu, \
                     service/www.example.test/us"),
            ),
        ] {
            let found = only(name, &targets).map_err(|error| error.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{name}");
        }
        let many: Vec<String> = (0..12).map(|number| format!("endpoint/r{number}/lb1")).collect();
        let error = only("lb1", &many).unwrap_err().to_string();
        assert!(error.ends_with("endpoint/r9/lb1 and 2 more"), "{error}");
    }
}
