//! What a request's cookie says about the backend that the client stays with.

use std::net::SocketAddr;

use http::HeaderMap;

use super::super::dto;
use crate::model::{Pool, Unix};
use crate::net::clock::Clock;
use crate::route::{Cookies, NoSession};
use crate::standing::PoolStanding;

/// The cookie of a request to this pool; `None` if the pool is not sticky.
pub(super) fn read(pool: &Pool, standing: &PoolStanding, headers: &HeaderMap) -> Option<dto::RequestSticky> {
    let cookies = Cookies::of(pool)?;
    let now = Clock::unix();
    let (valid, backend, note) = match cookies.read(headers, now) {
        Err(why) => (false, None, format!("{}: the response sets one", why_not(why, now))),
        Ok(session) => {
            let found =
                addresses(pool, standing).find(|it| cookies.tags(it.address).any(|tag| tag == session.tag));
            let is_open =
                found.as_ref().is_some_and(|it| standing.open.iter().any(|open| open.address == it.address));
            let renewed = if session.is_due { ", and the response renews it" } else { "" };
            let note = match &found {
                Some(it) if is_open => format!("it names {}{renewed}", it.address),
                Some(it) => {
                    format!("it names {}, which is not in use: the response sets another", it.address)
                }
                None => "it names a backend that the pool no longer has: the response sets another".into(),
            };
            (true, found, note)
        }
    };
    Some(dto::RequestSticky { cookie: cookies.name().into(), valid, backend, note })
}

fn why_not(why: NoSession, now: Unix) -> String {
    match why {
        NoSession::Absent => "the request has none".into(),
        NoSession::Several => "the request has several, so none counts".into(),
        NoSession::Malformed => "its value is not one that Portolan makes".into(),
        NoSession::Forged => "it was signed with another secret or for another pool".into(),
        NoSession::Expired(at) => format!("it expired {} s ago", now.since(at).as_secs()),
    }
}

fn addresses<'a>(
    pool: &'a Pool,
    standing: &'a PoolStanding,
) -> impl Iterator<Item = dto::BackendAddress> + 'a {
    pool.backends.iter().zip(&*standing.backends).flat_map(|(backend, standing)| {
        standing.addresses.iter().map(|it| dto::BackendAddress {
            backend: backend.name.clone(),
            address: SocketAddr::new(it.address, backend.port),
        })
    })
}
