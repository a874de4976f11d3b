//! Which node a command uses, and where it listens.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{ArgMatches, ValueHint};

use super::Command;
use super::client::{ClientError, Purpose};
use super::geo::GeoCommand;
use crate::config::{self, Control};
use crate::node::{default_sockets, demo};
use crate::prepare::files;

/// How long a socket may take to accept a connection before the command uses it regardless and reports what happens.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The options by which a command selects a running node.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which node")]
pub(super) struct NodeOptions {
    #[command(flatten)]
    pub(super) reach: Reach,
    /// Use the control socket or address of this config
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// How a node is reached.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which node")]
pub(super) struct Reach {
    /// HOST:PORT, an http(s) URL, or the path of a control socket
    #[arg(long, value_name = "NODE", value_hint = ValueHint::AnyPath)]
    pub(super) control: Option<String>,
    /// Token for access over TCP
    #[arg(long, value_name = "SECRET")]
    token: Option<String>,
}

/// What stands before the subcommand and in the environment.
pub(super) struct Selection {
    typed: NodeOptions,
    /// From PORTOLAN_CONTROL, PORTOLAN_CONFIG and PORTOLAN_TOKEN.
    environment: NodeOptions,
}

/// The node to use.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) node: NodeChoice,
    pub(super) token: Option<String>,
    /// The environment variable that chose it, which the user may have forgotten.
    pub(super) variable: Option<&'static str>,
}

/// How the node is named.
#[derive(Debug)]
pub(super) enum NodeChoice {
    /// By its address or socket.
    Named(String),
    /// By its config.
    Config(PathBuf),
    /// The node of this host.
    Default,
    /// The demo at the usual port.
    Demo,
}

impl Selection {
    pub(super) fn new(
        control: Option<String>,
        token: Option<String>,
        config: Option<PathBuf>,
        matches: &ArgMatches,
    ) -> Self {
        let is_typed = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        let (control, variable_control) = split(control, is_typed("control"));
        let (token, variable_token) = split(token, is_typed("token"));
        let (config, variable_config) = split(config, is_typed("config"));
        // A variable that is set to nothing counts as not set.
        let set = |value: Option<String>| value.filter(|it| !it.is_empty());
        let options = |control, token, config| NodeOptions { reach: Reach { control, token }, config };
        Self {
            typed: options(control, token, config),
            environment: options(set(variable_control), set(variable_token), variable_config),
        }
    }

    /// # Errors
    /// If an option before the subcommand means nothing to it.
    pub(super) fn fits(&self, command: &Command) -> Result<()> {
        let (uses_node, uses_config) = match command {
            Command::Serve { .. } | Command::Check(_) | Command::Geo(GeoCommand::Lookup { .. }) => {
                (false, true)
            }
            Command::Geo(_) | Command::Proxy(_) | Command::Completions { .. } | Command::Man(_) => {
                (false, false)
            }
            Command::Demo(_) => (true, false),
            _ => (true, true),
        };
        let option = match &self.typed {
            NodeOptions { reach: Reach { control: Some(_), .. }, .. } if !uses_node => "--control",
            NodeOptions { reach: Reach { token: Some(_), .. }, .. } if !uses_node => "--token",
            NodeOptions { config: Some(_), .. } if !uses_config => "-c before the subcommand",
            _ => return Ok(()),
        };
        Err(ClientError::Usage(format!("{option} does not apply to this command")).into())
    }

    /// The config of a command that reads one; `own` stands behind the subcommand.
    pub(super) fn config(&self, own: Option<PathBuf>) -> PathBuf {
        self.named_config(own).unwrap_or_else(|| config::DEFAULT_PATH.into())
    }

    /// The same if anything names it.
    pub(super) fn named_config(&self, own: Option<PathBuf>) -> Option<PathBuf> {
        own.or_else(|| self.typed_config(None)).or_else(|| self.environment.config.clone())
    }

    /// The config on the command line.
    pub(super) fn typed_config(&self, own: Option<&Path>) -> Option<PathBuf> {
        own.map(Path::to_owned).or_else(|| self.typed.config.clone())
    }

    /// The node on the command line.
    pub(super) fn typed_control(&self, own: &Reach) -> Option<String> {
        own.control.clone().or_else(|| self.typed.reach.control.clone())
    }

    /// The node for a command with these options. What is typed comes before what the environment says.
    pub(super) fn node(&self, options: &NodeOptions) -> Chosen {
        let token = options.reach.token.clone().or_else(|| self.typed.reach.token.clone());
        let token = token.or_else(|| self.environment.reach.token.clone());
        let typed = self.typed_control(&options.reach).map(NodeChoice::Named);
        let typed = typed.or_else(|| self.typed_config(options.config.as_deref()).map(NodeChoice::Config));
        let (node, variable) = match (typed, &self.environment) {
            (Some(node), _) => (node, None),
            (None, NodeOptions { reach: Reach { control: Some(control), .. }, .. }) => {
                (NodeChoice::Named(control.clone()), Some("PORTOLAN_CONTROL"))
            }
            (None, NodeOptions { config: Some(config), .. }) => {
                (NodeChoice::Config(config.clone()), Some("PORTOLAN_CONFIG"))
            }
            (None, _) => (NodeChoice::Default, None),
        };
        Chosen { node, token, variable }
    }
}

/// What is typed, and what the environment says.
fn split<T>(value: Option<T>, is_typed: bool) -> (Option<T>, Option<T>) {
    if is_typed { (value, None) } else { (None, value) }
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Socket(PathBuf),
    Url(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url.trim_start_matches("http://")),
        }
    }
}

/// A place where no node could be used, and why.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) place: Place,
    pub(super) why: Why,
}

/// Why a node cannot be used.
#[derive(Clone, Debug)]
pub(super) enum Why {
    /// This user may not use the socket.
    Denied,
    /// There is no socket.
    Absent,
    /// Anything else, as a clause.
    Failed(String),
}

impl From<&io::Error> for Why {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::NotFound => Self::Absent,
            io::ErrorKind::ConnectionRefused => Self::Failed("connection refused".into()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied => "permission denied",
            Self::Absent => "no such socket",
            Self::Failed(why) => why,
        })
    }
}

impl Chosen {
    /// Where the node listens, and the places before it where none does. Only sockets that others may stand in for are
    /// tried; the last place is left to the request itself.
    pub(super) async fn find(&self) -> Result<(Place, Vec<Attempt>)> {
        let mut places = self.node.places()?.into_iter();
        let mut skipped = Vec::new();
        while let Some(place) = places.next() {
            let Place::Socket(path) = &place else { return Ok((place, skipped)) };
            if places.len() == 0 {
                return Ok((place, skipped));
            }
            let connected = tokio::net::UnixStream::connect(path);
            match tokio::time::timeout(ACCEPT_TIMEOUT, connected).await {
                Ok(Err(error)) => skipped.push(Attempt { why: Why::from(&error), place }),
                Ok(Ok(_)) | Err(_) => return Ok((place, skipped)),
            }
        }
        Err(ClientError::Usage("this config has no control API: see [control]".into()).into())
    }

    /// What the user should know about the choice, as a sentence.
    pub(super) fn note(&self, place: &Place, skipped: &[Attempt], purpose: Purpose) -> Option<String> {
        let failed: Vec<String> = skipped
            .iter()
            .filter(|it| !matches!(it.why, Why::Absent))
            .map(|Attempt { place, why }| format!("{why} at {place}"))
            .collect();
        let variable = self.variable.filter(|_| purpose == Purpose::Change);
        // A user who tries the demo beside a node may mean the demo.
        let is_guessed = matches!(self.node, NodeChoice::Default) && purpose == Purpose::Change;
        let demo = demo_sockets().filter(|_| is_guessed).find(|path| path.exists());
        match (variable, failed.is_empty()) {
            (None, true) => {
                demo.map(|demo| format!("using the node at {place}, not the demo at {}", demo.display()))
            }
            (Some(variable), true) => Some(format!("using the node at {place}, which {variable} selects")),
            (_, false) => Some(format!("using the node at {place}: {}", failed.join(", "))),
        }
    }
}

/// Where this user's demos may have their sockets.
fn demo_sockets() -> impl Iterator<Item = PathBuf> {
    let usual = Control::DEFAULT_LISTEN.port();
    (usual..usual + demo::PORTS_TRIED).flat_map(demo::sockets)
}

impl NodeChoice {
    /// The places where the node may listen, best first.
    fn places(&self) -> Result<Vec<Place>> {
        let url = |address| Place::Url(format!("http://{address}"));
        Ok(match self {
            Self::Named(text) => vec![Place::parse(text)?],
            Self::Config(path) => {
                let control = config::load_control(path, &files::read)?;
                let scheme = if control.tls.is_some() { "https" } else { "http" };
                let listen = control.listen.map(|address| Place::Url(format!("{scheme}://{address}")));
                control.socket.map(Place::Socket).into_iter().chain(listen).collect()
            }
            Self::Default => {
                default_sockets().map(Place::Socket).chain([url(Control::DEFAULT_LISTEN)]).collect()
            }
            // At its sockets it wants no token. Where another node has the usual port, a demo takes the next.
            Self::Demo => {
                let usual = demo::sockets(Control::DEFAULT_LISTEN.port());
                let others = demo_sockets().filter(|path| path.exists() && !usual.contains(path));
                let sockets: Vec<_> = usual.iter().cloned().chain(others).map(Place::Socket).collect();
                sockets.into_iter().chain([url(Control::DEFAULT_LISTEN)]).collect()
            }
        })
    }
}

impl Place {
    fn parse(control: &str) -> Result<Self> {
        if control.starts_with("http://") || control.starts_with("https://") {
            Ok(Self::Url(control.trim_end_matches('/').to_owned()))
        } else if control.contains('/') || Path::new(control).exists() {
            Ok(Self::Socket(control.into()))
        } else if control
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            Ok(Self::Url(format!("http://{control}")))
        } else {
            let why = format!(
                "`{control}` is not a valid node: write HOST:PORT, an http(s) URL or the path of a socket"
            );
            Err(ClientError::Usage(why).into())
        }
    }
}
