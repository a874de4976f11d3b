//! The routes of a listener, compiled: which one a request takes, and why it does not take those before it.
//!
//! The first route of the config whose conditions all hold decides. Routes are found by the host of the request: a
//! table has those for one host, another those for all hosts below a name, and a list those for any host. Merged by their
//! order in the config, these are the only routes whose other conditions are checked, so thousands of hosts cost no scan.

mod conditions;
mod edit;
mod hosts;
mod path;
mod plan;
mod pools;
mod sticky;
#[cfg(test)]
mod tests;
mod why;

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::model::{PathPattern, Route, When};
use conditions::{Request, Unmet};
use hosts::Hosts;

pub use plan::{Listener, Plan};
pub use pools::choose_pool;
pub use sticky::{Cookies, NoSession, Session, Tag};
pub use why::{Skipped, WhyNot};

/// What routes see of a request.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The host that it names, without a port, in any case, with or without a trailing dot. Empty if it names none.
    pub host: &'a str,
    /// The path as it was sent, without the query.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a Method,
    /// All header fields.
    pub headers: &'a HeaderMap,
}

/// The routes of a listener. Threads should each have a clone: clones share the tables, but no scratch space of regular
/// expressions, for which threads would wait.
#[derive(Clone, Debug)]
pub struct Routes {
    /// The conditions by the index of the route, with paths as [`path::normalize`] writes them.
    whens: Vec<When>,
    hosts: Arc<Hosts>,
}

impl Routes {
    /// Compiles the routes of a listener.
    #[must_use]
    pub fn compile(routes: &[Route]) -> Self {
        let hosts = Arc::new(Hosts::compile(routes.iter().map(|route| route.when.host.as_ref())));
        Self { whens: routes.iter().map(|route| normalized(&route.when)).collect(), hosts }
    }

    /// The index of the first route whose conditions all hold.
    ///
    /// A path is compared after its dot segments are removed and its percent-encoding is normalized (RFC 3986 §6.2.2), so
    /// that `/public/../admin` and `/%61dmin` take the route of `/admin`. Empty segments stay: `//admin` is another path.
    /// Allocates only if that changes the path, or for conditions on a percent-encoded query.
    #[must_use]
    pub fn find(&self, head: &Head<'_>) -> Option<usize> {
        let request = Request::new(head);
        self.hosts.routes_for(head.host).find(|index| self.unmet(*index, &request).is_none())
    }

    /// The routes before the one that [`find`](Self::find) returns, or all if it returns none, each with its first
    /// condition that does not hold.
    #[must_use]
    pub fn explain<'a>(&'a self, head: &Head<'a>) -> Vec<Skipped<'a>> {
        let request = Request::new(head);
        let mut candidates = self.hosts.routes_for(head.host).peekable();
        let mut skipped = Vec::new();
        for (route, when) in self.whens.iter().enumerate() {
            let unmet = match candidates.next_if_eq(&route) {
                None => Unmet::Host,
                Some(_) => match self.unmet(route, &request) {
                    None => break,
                    Some(unmet) => unmet,
                },
            };
            skipped.push(Skipped { route, why: WhyNot::new(unmet, when, head) });
        }
        skipped
    }

    /// The first condition besides the host that does not hold.
    fn unmet(&self, index: usize, request: &Request<'_>) -> Option<Unmet> {
        conditions::first_unmet(&self.whens[index], request)
    }
}

/// The same conditions, with paths written as those of requests are compared.
fn normalized(when: &When) -> When {
    let mut when = when.clone();
    if let Some(PathPattern::Prefix(text) | PathPattern::Exact(text)) = &mut when.path
        && let Cow::Owned(normal) = path::normalize(text)
    {
        *text = normal;
    }
    when
}
