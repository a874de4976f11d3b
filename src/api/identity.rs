//! Who sent a request: the one name that overrides, events and the audit log have for it.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::{Uid, User};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The most users whose names are kept.
const USERS: usize = 256;

/// How long requests wait for the name of a user: it may be asked for over the network.
const NAME_WITHIN: Duration = Duration::from_secs(1);

/// The most bytes of the name of a user, and of the subject of a certificate.
const LONGEST_NAME: usize = 256;

/// Where a request comes from, as its connection shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// `None` on the socket.
    pub(super) address: Option<SocketAddr>,
    /// The user at the other end of the socket.
    pub(super) user: Option<u32>,
    /// The subject of the client's certificate.
    pub(super) certificate: Option<String>,
}

/// Finds the name of a user; `None` if it has none.
type Find = dyn Fn(u32) -> nix::Result<Option<String>> + Send + Sync;

/// The names of users, as the system knows them.
#[derive(Clone)]
pub(super) struct Users {
    find: Arc<Find>,
    lookups: Arc<Mutex<HashMap<u32, Lookup>>>,
}

/// The name of a user, which may not be known yet, or never.
#[derive(Clone, Debug)]
struct Lookup {
    name: watch::Receiver<Option<String>>,
    /// When requests stop to wait for it.
    until: Instant,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("lookups", &self.lookups).finish_non_exhaustive()
    }
}

impl Default for Users {
    fn default() -> Self {
        Self::found_by(|number| Ok(User::from_uid(Uid::from_raw(number))?.map(|user| user.name)))
    }
}

impl Users {
    fn found_by(find: impl Fn(u32) -> nix::Result<Option<String>> + Send + Sync + 'static) -> Self {
        Self { find: Arc::new(find), lookups: Arc::default() }
    }

    /// Who is at the other end, of whom this is known without its connection: the user on the socket, or the holder of a
    /// token, perhaps with a certificate.
    pub(super) async fn who(&self, peer: &Peer, holder: &str) -> String {
        match peer {
            Peer { user: Some(user), .. } => self.name(*user).await,
            Peer { certificate: Some(subject), .. } => format!("{holder}, certificate {subject}"),
            _ => holder.to_owned(),
        }
    }

    /// The same of who is refused, perhaps without a token that is valid; `None` for strangers.
    pub(super) async fn who_is_refused(&self, peer: &Peer, holder: Option<&str>) -> Option<String> {
        match (holder, &peer.certificate) {
            (Some(holder), _) => Some(self.who(peer, holder).await),
            (None, Some(subject)) => Some(format!("certificate {subject}")),
            (None, None) => None,
        }
    }

    /// "user olga"; "uid 1000" if the user has no name, or as long as none is found.
    async fn name(&self, number: u32) -> String {
        let Lookup { mut name, until } = self.lookup(number);
        match timeout_at(until, name.wait_for(Option::is_some)).await {
            Ok(Ok(name)) => name.clone().unwrap_or_else(|| unnamed(number)),
            _ => unnamed(number),
        }
    }

    /// Looks for a name, unless it is known or looked for already. What is found late is known from then on; what fails
    /// is tried again by the next request.
    fn lookup(&self, number: u32) -> Lookup {
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lookups.get(&number) {
            return known.clone();
        }
        if lookups.len() >= USERS {
            lookups.clear();
        }
        let (found, name) = watch::channel(None);
        let lookup = Lookup { name, until: Instant::now() + NAME_WITHIN };
        lookups.insert(number, lookup.clone());
        let Self { find, lookups } = self.clone();
        tokio::task::spawn_blocking(move || match find(number) {
            Ok(Some(name)) => drop(found.send_replace(Some(format!("user {}", in_a_line(&name))))),
            Ok(None) => drop(found.send_replace(Some(unnamed(number)))),
            Err(error) => {
                tracing::debug!(uid = number, %error, "the name of a user cannot be found");
                lookups.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            }
        });
        lookup
    }
}

fn unnamed(number: u32) -> String {
    format!("uid {number}")
}

/// The subject of a certificate.
pub(super) fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(in_a_line(&certificate.subject().to_string()))
}

/// A name of limited length in which nothing breaks the line, or its beginning.
fn in_a_line(name: &str) -> String {
    let mut name = name.replace(char::is_control, "\u{fffd}");
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    name
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use nix::errno::Errno;

    use super::*;

    fn of_user(user: u32) -> Peer {
        Peer { user: Some(user), ..Peer::default() }
    }

    #[tokio::test]
    async fn the_connection_says_who_asks() {
        let users = Users::found_by(|number| Ok((number == 7).then(|| "olga".into())));
        let certificate = || Peer { certificate: Some("CN=ops".into()), ..Peer::default() };
        for (peer, holder, expected) in [
            (of_user(7), Some("socket"), Some("user olga")),
            (of_user(8), Some("socket"), Some("uid 8")),
            (of_user(7), None, None),
            (Peer::default(), Some("socket"), Some("socket")),
            (Peer::default(), Some("token ci"), Some("token ci")),
            (Peer::default(), None, None),
            (certificate(), Some("token ci"), Some("token ci, certificate CN=ops")),
            (certificate(), None, Some("certificate CN=ops")),
        ] {
            assert_eq!(users.who_is_refused(&peer, holder).await.as_deref(), expected, "{peer:?}");
            if let Some(holder) = holder {
                assert_eq!(Some(&*users.who(&peer, holder).await), expected, "{peer:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_name_is_short_and_stays_in_its_line() {
        let long = "é".repeat(LONGEST_NAME);
        for (name, expected) in [
            ("EXAMPLE\\olga r", "user EXAMPLE\\olga r"),
            ("olga\nuser root\u{1b}[2J", "user olga\u{fffd}user root\u{fffd}[2J"),
            (&long, &format!("user {}", "é".repeat(LONGEST_NAME / 2))),
        ] {
            let name = name.to_owned();
            let users = Users::found_by(move |_| Ok(Some(name.clone())));
            assert_eq!(users.who(&of_user(7), "socket").await, *expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_found_late_counts_from_then_on() {
        let (find, names) = mpsc::channel();
        let names = Mutex::new(names);
        let users = Users::found_by(move |_| Ok(names.lock().unwrap().recv().ok()));
        let first = tokio::spawn({
            let users = users.clone();
            async move { users.name(7).await }
        });
        let mut name = users.lookup(7).name;
        tokio::time::advance(NAME_WITHIN).await;
        // Only a few turns, since a clock that is paused ends no wait.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(first.is_finished(), "it waits no longer than that");
        assert_eq!(first.await.unwrap(), "uid 7");
        assert_eq!(users.name(7).await, "uid 7", "nobody waits again");
        find.send("olga".to_owned()).unwrap();
        name.changed().await.unwrap();
        assert_eq!(users.name(7).await, "user olga");
    }

    #[tokio::test]
    async fn a_lookup_that_failed_is_tried_again_and_others_are_not() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let users = Users::found_by(move |number| match (number, count.fetch_add(1, Ordering::Relaxed)) {
            (7, 0) => Err(Errno::EIO),
            (7, _) => Ok(Some("olga".into())),
            _ => Ok(None),
        });
        for (number, expected, asked_then) in
            [(7, "uid 7", 1), (7, "user olga", 2), (7, "user olga", 2), (8, "uid 8", 3), (8, "uid 8", 3)]
        {
            assert_eq!(users.name(number).await, expected);
            assert_eq!(asked.load(Ordering::Relaxed), asked_then);
        }
        for number in 0..=u32::try_from(USERS).unwrap() {
            users.name(number).await;
        }
        assert!(users.lookups.lock().unwrap().len() <= USERS);
    }
}
