//! What clients can ask for. The router is made from this list, and so is the OpenAPI document.

use axum::http::StatusCode;
use axum::routing::{MethodRouter, delete, get, post};
use serde_json::{Map, Value};

use super::forecast::{get_map, post_plan};
use super::openapi::{self, Needs, Operation, part, query, request_header};
use super::routes::{self, Api};
use super::{acme, audit, dto, page, traffic};
use crate::config::Role;

/// All of them, each with what serves it.
pub(super) fn operations() -> Vec<(Operation, MethodRouter<Api>)> {
    [state(), questions(), overrides(), others(), page_and_probes()].into_iter().flatten().collect()
}

/// What is the case now.
fn state() -> Vec<(Operation, MethodRouter<Api>)> {
    vec![
        (
            Operation::get("/v1/status", "getStatus", "The node, regions, services, pools, alarms")
                .gives::<dto::Status>("Everything that `portolan status` shows.")
                .or_fails([StatusCode::SERVICE_UNAVAILABLE]),
            get(routes::get_status),
        ),
        (
            Operation::get("/v1/regions", "getRegions", "Regions with their endpoints and verdicts")
                .gives::<Vec<dto::Region>>("In order of name.")
                .or_fails([StatusCode::SERVICE_UNAVAILABLE]),
            get(routes::get_regions),
        ),
        (
            Operation::get("/v1/services", "getServices", "Services with their regions")
                .gives::<Vec<dto::Service>>("In the order of the config.")
                .or_fails([StatusCode::SERVICE_UNAVAILABLE]),
            get(routes::get_services),
        ),
        (
            Operation::get("/v1/traffic", "getTraffic", "Who asks: answers by service, region, country and network")
                .takes([query("service", "This service alone; all unless it is there.")])
                .gives::<dto::Traffic>("In all, and per second.")
                .or_fails([StatusCode::NOT_FOUND]),
            get(traffic::get_traffic),
        ),
        (
            Operation::get("/v1/handshakes", "getHandshakes", "How far away the proxy's clients are")
                .gives::<Vec<dto::Handshakes>>("By network."),
            get(routes::get_handshakes),
        ),
        (
            Operation::get("/v1/whoami", "whoAmI", "Who the node takes the sender for")
                .gives::<dto::Whoami>("The author that overrides of the sender name, and its role."),
            get(routes::get_whoami),
        ),
        (
            Operation::get("/v1/events", "getEvents", "What happened, or what happens")
                .takes([
                    request_header("accept", "`text/event-stream` for a stream that goes on."),
                    request_header(
                        "last-event-id",
                        "The last event that a reader of streams has seen; without it the stream begins with all that are kept.",
                    ),
                ])
                .gives::<Vec<dto::Event>>("The events that are kept, oldest first.")
                .gives_text("text/event-stream", "The events that are kept, then those that happen; the data of each is an `Event`.")
                .or_fails([StatusCode::SERVICE_UNAVAILABLE]),
            get(routes::get_events),
        ),
        (
            Operation::get("/v1/audit", "getAudit", "Who asked for which change, and what came of it")
                .needs(Needs::Token(Role::Viewer))
                .takes([
                    query("since", "Only entries from then on, such as 2026-11-20T12:00:00Z."),
                    query("limit", "At most this many, the latest; 1000 unless it is there."),
                ])
                .gives::<Vec<dto::AuditEntry>>("The entries, oldest first."),
            get(audit::get),
        ),
    ]
}

/// What would be.
fn questions() -> Vec<(Operation, MethodRouter<Api>)> {
    vec![
        (
            Operation::get("/v1/explain", "explain", "Why a client gets the answer that it gets")
                .takes([
                    query("name", "The name that is asked for; or a `url`."),
                    query("type", "The record type, such as AAAA or TYPE65; A unless it is there."),
                    query("at", "When it is asked, such as 2026-11-20T12:00:00Z; now unless it is there."),
                    query("client", "The client's address.").required(),
                    query("url", "Instead of a name, the URL that is asked of the proxy."),
                    query("method", "The method of the request; GET unless it is there. With `url` only."),
                    query("listener", "The listener of the proxy that it reaches. With `url` only."),
                    query("header", "A header of the request, as `name: value`. With `url` only.").repeated(),
                ])
                .gives::<Explained>("How the answer to a name came about, or what the proxy does with a URL.")
                .or_fails([StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE]),
            get(routes::get_explain),
        ),
        (
            Operation::get("/v1/map", "getMap", "Where the clients of each country are sent now")
                .takes([query("service", "The service; the first one unless it is there.")])
                .gives::<dto::Map>("Countries, with the shares of their clients by region.")
                .or_fails([StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE]),
            get(get_map),
        ),
        (
            Operation::post(
                "/v1/plan",
                "plan",
                "Whom a change of overrides or another config would move; nothing is changed",
            )
            .needs(Needs::Read)
            .reads::<dto::PlanRequest>()
            .gives::<dto::Plan>("Whom it would move, and whether a safety rule forbids it.")
            .or_fails([
                StatusCode::NOT_FOUND,
                StatusCode::CONFLICT,
                StatusCode::UNPROCESSABLE_ENTITY,
                StatusCode::SERVICE_UNAVAILABLE,
            ]),
            post(post_plan),
        ),
    ]
}

/// What operators decide.
fn overrides() -> Vec<(Operation, MethodRouter<Api>)> {
    vec![
        (
            Operation::get("/v1/overrides", "getOverrides", "The overrides that apply")
                .gives::<Vec<dto::Override>>("Oldest first.")
                .or_fails([StatusCode::SERVICE_UNAVAILABLE]),
            get(routes::get_overrides),
        ),
        (
            Operation::post("/v1/overrides", "setOverride", "Drain a target, or force it up or down")
                .reads::<dto::OverrideRequest>()
                .gives::<dto::Applied>("The override that applies now, and the one that it replaced.")
                .or_fails([StatusCode::NOT_FOUND, StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE]),
            post(routes::post_override),
        ),
        (
            Operation::delete("/v1/overrides/{id}", "removeOverride", "Remove an override")
                .takes([
                    part("id", "The number of the override."),
                    query(
                        "override_safety",
                        "`true`: even if a safety rule forbids it; needs the role admin.",
                    ),
                ])
                .gives::<dto::Applied>("The override that was removed.")
                .or_fails([StatusCode::NOT_FOUND, StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE]),
            delete(routes::delete_override),
        ),
    ]
}

fn others() -> Vec<(Operation, MethodRouter<Api>)> {
    vec![
        (
            Operation::post("/v1/reload", "reload", "Read the config again")
                .gives::<dto::Reloaded>("The config is in force; with what is probably not as meant.")
                .or_fails([StatusCode::UNPROCESSABLE_ENTITY, StatusCode::SERVICE_UNAVAILABLE]),
            post(routes::reload),
        ),
        (
            Operation::post(
                "/v1/acme",
                "showChallenge",
                "Show the DNS challenge of an ACME client elsewhere",
            )
            .reads::<dto::AcmeRequest>()
            .gives::<dto::Challenge>("The record is served.")
            .or_fails([
                StatusCode::NOT_FOUND,
                StatusCode::CONFLICT,
                StatusCode::SERVICE_UNAVAILABLE,
            ]),
            post(acme::post),
        ),
        (
            Operation::get("/v1/openapi.json", "getOpenApi", "This document")
                .gives::<Map<String, Value>>("An OpenAPI 3.1 document."),
            get(openapi::get),
        ),
    ]
}

/// What is not JSON.
fn page_and_probes() -> Vec<(Operation, MethodRouter<Api>)> {
    vec![
        (
            Operation::get("/livez", "livez", "Whether all parts of the node run")
                .needs(Needs::Nothing)
                .gives_text("text/plain; charset=utf-8", "They run.")
                .or_says(StatusCode::SERVICE_UNAVAILABLE, "One has stalled or ended; the sentence names it."),
            get(routes::livez),
        ),
        (
            Operation::get("/readyz", "readyz", "Whether the node answers")
                .needs(Needs::Nothing)
                .gives_text("text/plain; charset=utf-8", "It answers.")
                .or_says(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "It does not answer, or not yet; the sentence says why.",
                ),
            get(routes::readyz),
        ),
        (
            Operation::get("/metrics", "getMetrics", "Metrics for Prometheus")
                .takes([request_header("accept", "Which of the two formats.")])
                .gives_text("application/openmetrics-text; version=1.0.0; charset=utf-8", "All metrics.")
                .gives_text("text/plain; version=0.0.4; charset=utf-8", "All metrics.")
                .or_fails([StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE]),
            get(routes::metrics),
        ),
        (
            Operation::get("/", "getPage", "The page for browsers")
                .needs(Needs::Nothing)
                .gives_text("text/html; charset=utf-8", "The page."),
            get(page::index),
        ),
        (
            Operation::get("/page/{version}/{*name}", "getPagePart", "A file of the page")
                .needs(Needs::Nothing)
                .takes([
                    part("version", "As the page names it."),
                    part("name", "The path of the file, as the page names it; it may have slashes."),
                ])
                .gives_text("*/*", "The file.")
                .or_fails([StatusCode::NOT_FOUND]),
            get(page::file),
        ),
    ]
}

/// What `/v1/explain` explains.
#[derive(schemars::JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum Explained {
    /// With `name`.
    Name(Box<dto::Explain>),
    /// With `url`.
    Url(Box<dto::ExplainRequest>),
}
