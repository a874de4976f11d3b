//! `portolan proxy`: a balancer without a file.

use std::env;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use super::client::ClientError;
use super::{serve, write_line};
use crate::config::{self, Refused, Severity, parse_backend, parse_listener};
use crate::model::BackendReach;
use crate::prepare::Origin;

/// Arguments of `portolan proxy`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Addresses to listen on, as ADDRESS:PORT
    #[arg(long, required = true, num_args = 1.., value_delimiter = ',', value_name = "ADDR")]
    listen: Vec<String>,

    /// Backends, as ADDRESS:PORT or HOST:PORT
    #[arg(long, required = true, num_args = 1.., value_delimiter = ',', value_name = "ADDR")]
    to: Vec<String>,

    /// How a backend is chosen
    #[arg(long, default_value = "least-connections", value_parser = PossibleValuesParser::new(BALANCES))]
    #[arg(value_name = "HOW")]
    balance: String,

    /// Probe backends by a GET of this path rather than by a TCP handshake
    #[arg(long, value_name = "PATH")]
    probe: Option<String>,

    /// Forward bytes, whatever they are, rather than HTTP requests
    #[arg(long)]
    tcp: bool,

    /// Print the config that the arguments stand for, and exit
    #[arg(long)]
    print_config: bool,
}

const BALANCES: [&str; 7] =
    ["round-robin", "weighted", "least-connections", "least-time", "ip-hash", "two-choices", "maglev"];

/// Private networks in which the hosts of backends are believed to be. Whoever names a host here trusts its zone, but not as
/// far as loopback and link-local addresses.
const PRIVATE_NETWORKS: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// Where a node that root runs has its sockets.
const OF_ROOT: &str = "/run/portolan";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let listen = arguments.listen.iter().map(|text| listener(text)).collect::<Result<Vec<_>>>()?;
    let socket = socket_folder().join(socket_name(listen[0]));
    let toml = config(arguments, &listen, &socket.display().to_string())?;
    if arguments.print_config {
        write_line(toml.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    say!("`portolan status --control {}` shows the backends", socket.display());
    serve::run(Origin::Text { toml: toml.into(), files: [].into() })
}

/// The name of the control socket. It has the first address, which no other process has at the same time: any number of
/// proxies run on a machine, and none is taken for the node that has the usual socket. No shell expands it.
fn socket_name(first: SocketAddr) -> String {
    format!("portolan-proxy-{}-{}.sock", first.ip(), first.port())
}

fn socket_folder() -> PathBuf {
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(session) => session.into(),
        None if nix::unistd::geteuid().is_root() => OF_ROOT.into(),
        None => env::temp_dir(),
    }
}

fn listener(text: &str) -> Result<SocketAddr> {
    let address = parse_listener(text).map_err(|why| usage(format!("--listen: {why}")))?;
    if address.port() == 0 {
        return Err(usage(format!("--listen: {address} has port 0: write the port that clients connect to")));
    }
    Ok(address)
}

fn usage(why: String) -> anyhow::Error {
    ClientError::Usage(why).into()
}

/// The config that the arguments stand for. It is valid.
fn config(arguments: &Arguments, listen: &[SocketAddr], socket: &str) -> Result<String> {
    let text = written(arguments, listen, socket)?;
    let path = Path::new("portolan.toml");
    match config::load(path, &|_| Ok(text.clone().into_bytes())) {
        Ok(_) => Ok(text),
        // Each value stands in its message.
        Err(Refused { diagnostics, .. }) => {
            let errors = diagnostics.iter().filter(|it| it.severity == Severity::Error);
            let errors: Vec<&str> = errors.map(|it| it.message.as_str()).collect();
            Err(usage(errors.join("; ")))
        }
    }
}

fn written(arguments: &Arguments, listen: &[SocketAddr], socket: &str) -> Result<String> {
    let (backends, has_hosts) = backends(&arguments.to)?;
    let mut text = "version = 1\n".to_owned();
    if has_hosts {
        text += "\n[node]\n# Hosts of backends may be at these addresses, besides public ones.\n";
        let _ = writeln!(text, "private_networks = {}", list(PRIVATE_NETWORKS));
    }
    text += "\n[control]\n# No TCP port, and a socket of its own: any number of these run on a machine.\nlisten = false\n";
    let _ = writeln!(text, "socket = {}", quoted(socket));
    text += "\n[probe.backend]\n# Without a `port`: each backend is probed at its own.\n";
    match &arguments.probe {
        None => text += "kind = \"tcp\"\n",
        Some(path) => {
            let _ = writeln!(text, "kind = \"http\"\npath = {}", quoted(path));
        }
    }
    text += "\n[proxy.listener.main]\n";
    let _ = writeln!(text, "listen = {}", list(listen));
    let protocol = if arguments.tcp { "tcp" } else { "http" };
    let _ = writeln!(text, "protocol = \"{protocol}\"\npool = \"backends\"");
    text += "\n[proxy.pool.backends]\n";
    let _ = writeln!(text, "balance = \"{}\"\nbackend = {}", arguments.balance, list(&backends));
    text += "probe = [\"backend\"]\n";
    Ok(text)
}

/// The backends as the config names them, and whether any is a host.
fn backends(written: &[String]) -> Result<(Vec<String>, bool)> {
    let (mut found, mut has_hosts) = (Vec::new(), false);
    for text in written {
        let text = from_localhost(text);
        let (reach, _) = parse_backend(&text).map_err(|why| usage(format!("--to: {why}")))?;
        has_hosts |= matches!(reach, BackendReach::Resolved(_));
        found.push(text);
    }
    Ok((found, has_hosts))
}

/// `localhost:PORT` as an address: no resolver is asked for it.
fn from_localhost(text: &str) -> String {
    let port = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    let loopback = |port| SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port).to_string();
    port.map_or_else(|| text.to_owned(), loopback)
}

/// A TOML list of strings.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(arguments: &str) -> Arguments {
        let words = std::iter::once("proxy").chain(arguments.split_whitespace());
        Whole::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).arguments
    }

    fn config_of(arguments: &str) -> Result<String> {
        let arguments = parsed(arguments);
        let listen = arguments.listen.iter().map(|text| listener(text)).collect::<Result<Vec<_>>>()?;
        config(&arguments, &listen, &format!("/run/portolan/{}", socket_name(listen[0])))
    }

    #[test]
    fn the_least() {
        insta::assert_snapshot!(config_of("--listen 127.0.0.1:8080 --to 10.0.0.1:80").unwrap(), @r#"
        version = 1

        [control]
        # No TCP port, and a socket of its own: any number of these run on a machine.
        listen = false
        socket = "/run/portolan/portolan-proxy-127.0.0.1-8080.sock"

        [probe.backend]
        # Without a `port`: each backend is probed at its own.
        kind = "tcp"

        [proxy.listener.main]
        listen = ["127.0.0.1:8080"]
        protocol = "http"
        pool = "backends"

        [proxy.pool.backends]
        balance = "least-connections"
        backend = ["10.0.0.1:80"]
        probe = ["backend"]
        "#);
    }

    #[test]
    fn the_most() {
        let text = "--listen 0.0.0.0:8080 [::]:8080 --to 10.0.0.1:80,app.internal:81 localhost:82 --balance weighted --probe /health?a=b'c";
        insta::assert_snapshot!(config_of(text).unwrap(), @r#"
        version = 1

        [node]
        # Hosts of backends may be at these addresses, besides public ones.
        private_networks = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]

        [control]
        # No TCP port, and a socket of its own: any number of these run on a machine.
        listen = false
        socket = "/run/portolan/portolan-proxy-0.0.0.0-8080.sock"

        [probe.backend]
        # Without a `port`: each backend is probed at its own.
        kind = "http"
        path = "/health?a=b'c"

        [proxy.listener.main]
        listen = ["0.0.0.0:8080", "[::]:8080"]
        protocol = "http"
        pool = "backends"

        [proxy.pool.backends]
        balance = "weighted"
        backend = ["10.0.0.1:80", "app.internal:81", "127.0.0.1:82"]
        probe = ["backend"]
        "#);
    }

    #[test]
    fn bytes() {
        insta::assert_snapshot!(config_of("--tcp --listen [::]:5432 --to [2001:db8::1]:5432").unwrap(), @r#"
        version = 1

        [control]
        # No TCP port, and a socket of its own: any number of these run on a machine.
        listen = false
        socket = "/run/portolan/portolan-proxy-::-5432.sock"

        [probe.backend]
        # Without a `port`: each backend is probed at its own.
        kind = "tcp"

        [proxy.listener.main]
        listen = ["[::]:5432"]
        protocol = "tcp"
        pool = "backends"

        [proxy.pool.backends]
        balance = "least-connections"
        backend = ["[2001:db8::1]:5432"]
        probe = ["backend"]
        "#);
    }

    #[test]
    fn every_balance_is_valid() {
        for balance in BALANCES {
            let text =
                config_of(&format!("--listen [::]:80 --to 10.0.0.1:80,10.0.0.2:80 --balance {balance}"));
            assert!(text.unwrap().contains(&format!("balance = \"{balance}\"")));
        }
    }

    #[test]
    fn bad_arguments() {
        for (arguments, expected) in [
            (
                "--listen 8080 --to 10.0.0.1:80",
                "--listen: \"8080\" is not an address with a port; write \"0.0.0.0:8080\" or \"[::]:8080\"",
            ),
            (
                "--listen :8080 --to 10.0.0.1:80",
                "--listen: \":8080\" is not an address with a port; write \"0.0.0.0:8080\" or \"[::]:8080\"",
            ),
            (
                "--listen [::]:0 --to 10.0.0.1:80",
                "--listen: [::]:0 has port 0: write the port that clients connect to",
            ),
            (
                "--listen 0.0.0.0:80,127.0.0.1:80 --to 10.0.0.1:80",
                "127.0.0.1:80 overlaps the listener 0.0.0.0:80",
            ),
            (
                "--listen [::]:80 --to 10.0.0.1",
                "--to: \"10.0.0.1\" is not an address or host with a port; write \"10.0.0.1:80\" with the port you mean",
            ),
            (
                "--listen [::]:80 --to http://10.0.0.1:80",
                "--to: \"http://10.0.0.1:80\" is not an address or host with a port; leave http:// out: write \"10.0.0.1:80\"",
            ),
            ("--listen [::]:80 --to 10.0.0.1:80,10.0.0.1:80", "backend `10.0.0.1:80` is listed twice"),
            (
                "--listen [::]:80 --to localhost",
                "--to: \"localhost\" is not an address or host with a port; write HOST:PORT",
            ),
            (
                "--listen [::]:80 --to 10.0.0.1:80 --probe health",
                "\"health\" is not a valid path: it starts with `/` and has no spaces and no `#`",
            ),
        ] {
            assert_eq!(config_of(arguments).unwrap_err().to_string(), expected, "{arguments}");
        }
    }

    #[test]
    fn sockets_differ_by_their_address() {
        let name = |text: &str| socket_name(text.parse().unwrap());
        assert_eq!(name("127.0.0.1:8080"), "portolan-proxy-127.0.0.1-8080.sock");
        assert_eq!(name("[::1]:8080"), "portolan-proxy-::1-8080.sock");
    }
}
