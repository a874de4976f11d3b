//! Knot and NSD as child processes, on their own loopback ports.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::questions::Question;
use super::reply::Reply;
use crate::harness::{PATIENCE, until};

/// A name server that is stopped when the test ends.
pub(super) struct Server {
    pub(super) name: &'static str,
    child: Child,
    socket: UdpSocket,
    stream: Option<TcpStream>,
    last_id: u16,
    folder: TempDir,
}

impl Server {
    /// Knot with these zones; `None` if it is not installed.
    pub(super) async fn knot(zones: &[(&str, &str)]) -> Option<Self> {
        let program = installed("knotd")?;
        let config = |folder: &str, port: u16| {
            let mut text = format!(
                "server:\n  listen: 127.0.0.1@{port}\n  rundir: {folder}\n  udp-max-payload: 1232\n  udp-workers: 1\n  \
                 tcp-workers: 1\n  background-workers: 1\ndatabase:\n  storage: {folder}\nlog:\n- target: stderr\n  \
                 any: warning\ntemplate:\n- id: default\n  storage: {folder}\n  zonefile-sync: -1\n  \
                 zonefile-load: whole\n  journal-content: none\n  file: \"%s.zone\"\nzone:\n"
            );
            for (origin, _) in zones {
                let _ = writeln!(text, "- domain: {origin}");
            }
            text
        };
        Some(Self::start("knot", &program, &[], config, zones).await)
    }

    /// NSD with these zones; `None` if it is not installed.
    pub(super) async fn nsd(zones: &[(&str, &str)]) -> Option<Self> {
        let program = installed("nsd")?;
        let config = |folder: &str, port: u16| {
            let mut text = format!(
                "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{folder}\"\n  \
                 database: \"\"\n  pidfile: \"{folder}/pid\"\n  xfrdfile: \"{folder}/xfrd\"\n  \
                 zonelistfile: \"{folder}/list\"\n  server-count: 1\n  ipv4-edns-size: 1232\n  \
                 minimal-responses: yes\n  refuse-any: yes\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n"
            );
            for (origin, _) in zones {
                let _ = write!(text, "zone:\n  name: \"{origin}\"\n  zonefile: \"{origin}zone\"\n");
            }
            text
        };
        Some(Self::start("nsd", &program, &["-d"], config, zones).await)
    }

    async fn start(
        name: &'static str,
        program: &Path,
        arguments: &[&str],
        config: impl Fn(&str, u16) -> String,
        zones: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_str().expect("UTF-8");
        let address = free_port();
        fs::write(folder.path().join("conf"), config(path, address.port())).expect("a file");
        for (origin, text) in zones {
            let text = format!("$ORIGIN {origin}\n{text}");
            fs::write(folder.path().join(format!("{origin}zone")), text).expect("a file");
        }
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new(program)
            .args(arguments)
            .arg("-c")
            .arg(folder.path().join("conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.connect(address).expect("loopback");
        let mut server = Self { name, child, socket, stream: None, last_id: 0, folder };
        server.wait().await;
        server
    }

    /// Waits until it answers for the first zone.
    async fn wait(&mut self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let question = Question::plain("example.");
        until("it answers", async || {
            let ended = self.child.try_wait().expect("our child");
            assert!(ended.is_none(), "{} does not start:\n{}", self.name, self.log());
            // Until its zones are loaded it may answer, but not with NOERROR.
            self.exchange(&question.message()).filter(|reply| reply[3] & 0x0f == 0)
        })
        .await;
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its reply to a question.
    pub(super) fn ask(&mut self, question: &Question) -> Reply {
        let message = question.message();
        let reply = if question.tcp { self.over_tcp(&message) } else { self.exchange(&message) };
        Reply::read(
            &reply.unwrap_or_else(|| panic!("{} is silent about {question}:\n{}", self.name, self.log())),
        )
    }

    fn exchange(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        self.last_id = self.last_id.wrapping_add(1);
        let id = self.last_id.to_be_bytes();
        // The previous send may report "connection refused" here.
        self.socket.send(&[&id, &message[2..]].concat()).ok()?;
        let mut bytes = vec![0; 65_535];
        loop {
            let length = self.socket.recv(&mut bytes).ok()?;
            // Replies to queries sent while it was starting may arrive late.
            if bytes[..2] == id {
                bytes.truncate(length);
                return Some(bytes);
            }
        }
    }

    fn over_tcp(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let address = self.socket.peer_addr().expect("it is connected");
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(TcpStream::connect(address).ok()?),
        };
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(&[&(message.len() as u16).to_be_bytes(), message].concat()).ok()?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not killed: NSD has children of its own to end.
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).ok();
        self.child.wait().ok();
    }
}

/// The path of a program; name servers may not be in the user's PATH.
pub(super) fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// A port that was free for UDP and TCP a moment ago.
fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = tcp.local_addr().expect("it is bound");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
