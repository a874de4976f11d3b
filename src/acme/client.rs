//! HTTP requests to an ACME server, which is a stranger: what it sends, and for how long it is waited for, is bounded.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use reqwest::dns::{Addrs, Resolve, Resolving};
use reqwest::redirect::Policy;
use rustls::ClientConfig;

use crate::model::{Found, Lookup, Name};
use crate::net::clock::Clock;
use crate::net::resolver::Resolver;

/// Time of a request and its response. Authorities take seconds.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of a response: a chain of certificates takes 10 KiB.
const LARGEST_RESPONSE: usize = 256 * 1024;
/// Characters of what a server says that are shown.
const LONGEST_CLAUSE: usize = 300;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("portolan/", env!("CARGO_PKG_VERSION")));

/// What a server asked for when it refused a request.
pub(super) type RetryAfter = Arc<Mutex<Option<Duration>>>;

/// Sends requests over TLS only.
pub(super) struct Http {
    client: reqwest::Client,
    retry_after: RetryAfter,
}

impl Http {
    /// Notes in `retry_after` how long the server wants to be left alone. Without a `resolver`, the system is asked where
    /// the server is.
    ///
    /// # Errors
    /// If the client cannot be set up.
    pub(super) fn new(
        tls: &ClientConfig,
        resolver: Option<Arc<Resolver>>,
        retry_after: RetryAfter,
    ) -> Result<Self, reqwest::Error> {
        let mut client = reqwest::Client::builder();
        if let Some(resolver) = resolver {
            client = client.dns_resolver(Hosts(resolver));
        }
        let client = client
            .tls_backend_preconfigured(tls.clone())
            .https_only(true)
            .http1_only()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(REQUEST_WITHIN)
            .build()?;
        Ok(Self { client, retry_after })
    }
}

/// Finds the server by the resolvers of the config.
struct Hosts(Arc<Resolver>);

impl Resolve for Hosts {
    fn resolve(&self, host: reqwest::dns::Name) -> Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let host = host.as_str();
            let name: Name = host.parse().map_err(|why| format!("{host} is not a valid host name: {why}"))?;
            let Lookup { v4, v6 } = resolver.addresses(&name).await;
            // The port comes from the URL.
            let of = |found: &Found| found.addresses.iter().map(|it| SocketAddr::new(*it, 0)).collect();
            let found: Vec<Vec<SocketAddr>> = [&v6, &v4].into_iter().flatten().map(of).collect();
            let found = found.concat();
            if found.is_empty() {
                let why = v4.err().or_else(|| v6.err()).unwrap_or_else(|| "it has no address".into());
                return Err(format!("{host} cannot be resolved: {why}").into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

impl HttpClient for Http {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let (client, retry_after) = (self.client.clone(), Arc::clone(&self.retry_after));
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let sent = client.request(parts.method, parts.uri.to_string()).headers(parts.headers);
            let sent = sent.header(USER_AGENT, AGENT).body(body.to_bytes()).send().await;
            let mut response = sent.map_err(|error| other(innermost(&error)))?;
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| other(innermost(&error)))? {
                if bytes.len() + chunk.len() > LARGEST_RESPONSE {
                    return Err(other(format!("its response has more than {LARGEST_RESPONSE} bytes")));
                }
                bytes.extend_from_slice(&chunk);
            }
            let status = response.status();
            if status.is_client_error() || status.is_server_error() {
                *retry_after.lock().unwrap_or_else(PoisonError::into_inner) = wish(response.headers());
                if !is_problem(response.headers(), &bytes) {
                    return Err(other(format!("it answered {status}")));
                }
            }
            let mut answer = Response::new(Full::new(Bytes::from(bytes)));
            *answer.status_mut() = status;
            *answer.headers_mut() = response.headers().clone();
            Ok(BytesResponse::from(answer))
        })
    }
}

fn is_problem(headers: &HeaderMap, body: &[u8]) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/problem+json") && serde_json::from_slice::<serde_json::Value>(body).is_ok()
}

/// Seconds, or a date (RFC 9110 §10.2.3).
fn wish(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH + Clock::unix().0).ok()
}

fn other(why: String) -> Error {
    Error::Other(why.into())
}

/// The cause that explains a failure best: the last.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("it does not answer within {} s", REQUEST_WITHIN.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Why a request failed, as a clause. What a stranger writes is shortened and made printable.
pub(super) fn why(error: &Error) -> String {
    let text = match error {
        Error::Api(problem) => {
            let kind = problem.r#type.as_deref().unwrap_or("about:blank");
            let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind);
            let detail = problem.detail.as_deref().unwrap_or("no reason given");
            let parts = problem.subproblems.iter().filter_map(|it| it.detail.as_deref());
            let parts: String = parts.map(|detail| format!("; {detail}")).collect();
            format!("{detail}{parts} ({kind})")
        }
        Error::Json(_) => "what it sends is not what RFC 8555 says".to_owned(),
        error => error.to_string(),
    };
    let printable = text.chars().map(|it| if it.is_control() { ' ' } else { it });
    printable.take(LONGEST_CLAUSE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            wish(&headers)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), None, "it is over");
        assert!(of("Fri, 31 Dec 9999 23:59:59 GMT").is_some_and(|it| it > Duration::from_secs(1)));
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn what_a_stranger_writes_is_short_and_printable() {
        let problem = |detail: &str| {
            let json =
                serde_json::json!({ "type": "urn:ietf:params:acme:error:rateLimited", "detail": detail });
            Error::Api(serde_json::from_value(json).unwrap())
        };
        assert_eq!(why(&problem("too many\r\n\u{1b}[2J")), "too many   [2J (rateLimited)");
        assert_eq!(why(&problem(&"é".repeat(1000))).chars().count(), LONGEST_CLAUSE);
    }
}
