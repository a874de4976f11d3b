//! Common mistakes, and how the program reports them: what is wrong, where, and what to do.

use std::fs::{self, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::binary::{
    Done, PROGRAM, Served, clean, is_installed, portolan, program, run, with_mount,
};
use crate::harness::folder::{Folder, test_data};
use crate::harness::http::Api;
use crate::harness::region::{Break, Region};
use crate::harness::skipped;

/// A region without probes, on purpose, and a service, so that nothing else is wrong.
const GOOD: &str = "\
[region.eu]
endpoint = [{ name = \"lb1\", address = \"192.0.2.1\", probe = [] }]
[[service]]
name = \"www.example.test.\"
regions = [\"eu\"]
";

fn with_config(command: &str, folder: &Folder) -> Done {
    let mut line = program();
    line.arg(command).arg("-c").arg(folder.config());
    run(line)
}

fn serve(folder: &Folder) -> Done {
    with_config("serve", folder)
}

/// The program exited with 1, with nothing on stdout and all of this on stderr.
#[track_caller]
fn assert_reports(what: &str, done: &Done, expected: &[&str]) {
    assert_eq!((done.code, &*done.stdout), (Some(1), ""), "{what}: {done:?}");
    for expected in expected {
        assert!(done.stderr.contains(expected), "{what}: expected {expected:?} in:\n{}", done.stderr);
    }
}

/// A mistake in a config or in a file it names, reported alike by `check` and `serve`.
struct Mistake {
    what: &'static str,
    make: fn(&Folder),
    /// Parts of the expected error; `@` stands for the folder.
    expected: &'static [&'static str],
}

const IN_FILES: &[Mistake] = &[
    Mistake {
        what: "a line that is not TOML",
        make: |folder| folder.configure("[region.eu\n"),
        expected: &["@/portolan.toml:31:11: error: unclosed table"],
    },
    Mistake {
        what: "names that are not there",
        make: |folder| {
            folder.configure(
                &GOOD
                    .replace("probe = []", "probe = [\"redy\"]")
                    .replace("[\"eu\"]", "[\"eu-wset\"]")
                    .replace("region.eu", "probe.ready]\nkind = \"http\"\n[region.eu-west"),
            );
        },
        expected: &[
            "@/portolan.toml:34:61: error: probe `redy` is not defined; did you mean `ready`?",
            "@/portolan.toml:37:12: error: region `eu-wset` is not defined; did you mean `eu-west`?",
        ],
    },
    Mistake {
        what: "a key that is not there",
        make: |folder| folder.configure(&GOOD.replace("regions = ", "region = ")),
        expected: &["@/portolan.toml:35:1: error: ", "`region`", "did you mean `regions`?"],
    },
    Mistake {
        what: "a feature that is not there",
        make: |folder| folder.reconfigure("workers = 1", "workers = 1\ntransfer = { allow = [\"::/0\"] }"),
        expected: &["@/portolan.toml:13:1: error: ", "not supported yet"],
    },
    Mistake {
        what: "cookie secrets that are not there",
        make: |folder| folder.reconfigure("workers = 1", "workers = 1\ncookies = { secret_file = \"x\" }"),
        expected: &[
            "@/portolan.toml:13:27: error: cookie secrets @/x: no such file",
            "help: a relative path starts at the folder of the config file",
        ],
    },
    Mistake {
        what: "a zone file that is not there",
        make: |folder| folder.reconfigure("\"example.test.zone\"", "\"zones/example.test.zone\""),
        expected: &[
            "@/portolan.toml:29:10: error: zone file @/zones/example.test.zone: no such file",
            "help: a relative path starts at the folder of the config file",
        ],
    },
    Mistake {
        what: "a mistake in a zone",
        make: |folder| {
            folder.write("example.test.zone", "$TTL 60\n@ SOA a b 1 2 3 4 5\n@ NS a\na A 192.0.2.300\n")
        },
        expected: &["@/example.test.zone:4:5: error: expected IPv4 address"],
    },
    Mistake {
        what: "a zone without its head",
        make: |folder| folder.write("example.test.zone", "$TTL 60\nwww A 192.0.2.1\n"),
        expected: &["@/example.test.zone:", "SOA"],
    },
    Mistake {
        what: "a service outside of every zone",
        make: |folder| folder.configure(&GOOD.replace("www.example.test.", "www.example.invalid.")),
        expected: &["@/portolan.toml:34:8: error: www.example.invalid. lies in none of the zones"],
    },
    Mistake {
        what: "an authority that is not a certificate",
        make: |folder| {
            folder.write("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
            folder.configure(&format!("{GOOD}[probe.edge]\nkind = \"tls\"\nca = \"ca.pem\"\n"));
        },
        expected: &["@/portolan.toml:38:6: error: certificate 1 in @/ca.pem is not a valid authority: "],
    },
    Mistake {
        what: "TLS files that are not there, or not what they should be",
        make: |folder| {
            folder.write("clients.pem", "");
            let tls = "tls = { cert = \"c.pem\", key = \"k.pem\", client_ca = \"clients.pem\" }";
            folder.reconfigure("[control]", &format!("[control]\n{tls}"));
        },
        expected: &[
            "@/portolan.toml:15:16: error: TLS of the API: @/c.pem: no such file",
            "@/portolan.toml:15:31: error: TLS of the API: @/k.pem: no such file",
            "@/portolan.toml:15:52: error: TLS of the API: @/clients.pem: no certificate in it",
            "help: a relative path starts at the folder of the config file",
        ],
    },
    Mistake {
        what: "a key of another certificate",
        make: |folder| {
            let [one, other] = [(); 2]
                .map(|()| rcgen::generate_simple_self_signed(["ns1".to_owned()]).expect("a certificate"));
            folder.write("c.pem", one.cert.pem());
            folder.write_secret("k.pem", other.signing_key.serialize_pem());
            folder.reconfigure("[control]", "[control]\ntls = { cert = \"c.pem\", key = \"k.pem\" }");
        },
        expected: &[
            "@/portolan.toml:15:16: error: TLS of the API: @/c.pem: cannot be used with the key @/k.pem: ",
        ],
    },
    Mistake {
        what: "a key that every user may read",
        make: |folder| {
            let made = rcgen::generate_simple_self_signed(["ns1".to_owned()]).expect("a certificate");
            folder.write("c.pem", made.cert.pem());
            folder.write("k.pem", made.signing_key.serialize_pem());
            let open = Permissions::from_mode(0o644);
            fs::set_permissions(folder.path("k.pem"), open).expect("it is ours");
            folder.reconfigure("[control]", "[control]\ntls = { cert = \"c.pem\", key = \"k.pem\" }");
        },
        expected: &[
            "@/portolan.toml:15:31: error: TLS of the API: @/k.pem: its mode 644 gives every user access",
            "help: `chmod 640` or `600`, and replace it: anyone may have copied it",
        ],
    },
    Mistake {
        what: "a zone file that is a named pipe",
        make: |folder| {
            nix::unistd::mkfifo(&folder.path("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
            folder.reconfigure("\"example.test.zone\"", "\"pipe\"");
        },
        expected: &[
            "@/portolan.toml:29:10: error: zone file @/pipe: is a named pipe, not a file",
            "help: name a regular file",
        ],
    },
    Mistake {
        what: "a path that no request can have",
        make: |folder| folder.configure(&format!("{GOOD}[probe.edge]\nkind = \"http\"\npath = \"/<id>\"\n")),
        expected: &["@/portolan.toml:38:8: error: \"/<id>\" is not a valid path: invalid uri character"],
    },
    Mistake {
        what: "a geo database that is not there",
        make: |folder| folder.reconfigure("\"places.mmdb\"", "\"city.mmdb\""),
        expected: &[
            "@/portolan.toml:19:12: error: geo database @/city.mmdb: no such file",
            "help: a relative path starts at the folder of the config file",
        ],
    },
    Mistake {
        what: "geo databases of other kinds, both reported",
        make: |folder| {
            let of_another_kind =
                fs::read(test_data("GeoIP2-Anonymous-IP-Test.mmdb")).expect("it is committed");
            folder.write("anonymous.mmdb", of_another_kind);
            folder.write("places.csv", "place,region\n");
            folder.reconfigure("\"places.mmdb\"", "[\"anonymous.mmdb\", \"places.csv\"]");
        },
        expected: &[
            "@/portolan.toml:19:13: error: geo database @/anonymous.mmdb: the database is of type \"GeoIP2-Anonymous-IP\" and has no places",
            "@/portolan.toml:19:31: error: geo database @/places.csv: not a MaxMind DB (.mmdb) file",
            "help: name an .mmdb file with countries, coordinates or ASNs, or \"builtin\"",
        ],
    },
];

#[test]
fn mistakes_in_files_are_reported_with_their_location_by_check_and_serve() {
    for mistake in IN_FILES {
        let folder = Folder::new(GOOD);
        (mistake.make)(&folder);
        let at = folder.path("").display().to_string();
        let expected: Vec<_> = mistake.expected.iter().map(|expected| expected.replace("@/", &at)).collect();
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        let (checked, served) = (with_config("check", &folder), serve(&folder));
        assert_reports(mistake.what, &checked, &expected);
        assert_eq!(checked.stderr, served.stderr, "{}", mistake.what);
        assert_eq!((served.code, &*served.stdout), (Some(1), ""), "{}", mistake.what);
    }
    let folder = Folder::new(GOOD);
    let fine = with_config("check", &folder);
    assert_eq!((fine.code, &*fine.stderr), (Some(0), ""));
    assert!(fine.stdout.ends_with(" is fine: 1 zone, 1 service, 1 region\n"), "{fine:?}");
}

#[test]
fn a_missing_config() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = folder.path().join("portolan.toml").display().to_string();
    for (path, why) in [
        (missing, "no such file"),
        (folder.path().display().to_string(), "is a folder, not a file\n = help: name a regular file"),
    ] {
        for command in ["serve", "check"] {
            let done = portolan(&[command, "-c", &path]);
            let expected = format!("{path}:1:1: error: config file: {why}\n");
            assert_reports(command, &done, &[&expected]);
            assert!(!done.stderr.contains("-c FILE"), "it is named: {done:?}");
        }
    }
}

#[test]
fn a_port_in_use() {
    let listen = |folder: &Folder, from: &str, port: u16| {
        folder.reconfigure(from, &from.replace("127.0.0.1:0", &format!("127.0.0.77:{port}")));
    };
    // An address used by this test alone, where the same port of the other protocol is certainly free.
    let tcp = TcpListener::bind("127.0.0.77:0").expect("a free port");
    let udp = UdpSocket::bind("127.0.0.77:0").expect("a free port");
    let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    for (what, from, port, expected) in [
        (
            "DNS over TCP",
            "listen  = [\"127.0.0.1:0\"]",
            tcp_port,
            "another server is listening there (TCP); stop it or change [dns] listen",
        ),
        (
            "DNS over UDP",
            "listen  = [\"127.0.0.1:0\"]",
            udp_port,
            "another server is listening there (UDP); stop it or change [dns] listen",
        ),
        (
            "the API",
            "listen = \"127.0.0.1:0\"",
            tcp_port,
            "another program has the control API's address; stop it or change [control] listen",
        ),
    ] {
        let folder = Folder::new(GOOD);
        listen(&folder, from, port);
        assert_reports(
            what,
            &serve(&folder),
            &[&format!("portolan: 127.0.0.77:{port} is in use: {expected}")],
        );
        assert!(!folder.socket().exists(), "{what}: nothing is left behind");
    }
}

#[test]
fn a_control_socket_in_use_and_one_left_behind() {
    let folder = Folder::new(GOOD);
    let socket = UnixListener::bind(folder.socket()).expect("a socket");
    let shown = folder.socket().display().to_string();
    let expected =
        format!("{shown} is in use: another node listens on it; stop it or change [control] socket");
    assert_reports("the socket", &serve(&folder), &[&expected]);
    assert!(folder.socket().exists(), "it is the other's");
    drop(socket);
    // Nothing listens on it any more: it is replaced, and the next error is reported.
    fs::remove_dir(folder.path("state")).expect("it was created, and holds nothing");
    folder.write("state", "a file where a folder should be");
    let done = serve(&folder);
    let state = folder.path("state").display().to_string();
    assert_reports(
        "the state",
        &done,
        &["cannot create the state directory", &state, "check its owner and mode"],
    );
    assert!(!folder.socket().exists(), "a node that did not start leaves no socket behind");
}

#[test]
fn a_file_where_the_control_socket_should_be() {
    let folder = Folder::new(GOOD);
    folder.write("control.sock", "somebody's data");
    let shown = folder.socket().display().to_string();
    let expected =
        format!("{shown} is not a socket, so it is left alone: remove it or change [control] socket");
    assert_reports("the file", &serve(&folder), &[&expected]);
    assert_eq!(fs::read_to_string(folder.socket()).expect("it is still there"), "somebody's data");
}

/// A node whose config names no socket uses the default path, or its session's where it may not have that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_control_socket_that_is_taken_is_left_alone() {
    let by_another_node = |path: &Path| Some(UnixListener::bind(path).expect("a socket"));
    let by_a_file = |path: &Path| {
        fs::write(path, "somebody's data").expect("a file");
        None
    };
    for take in [by_another_node as fn(&Path) -> Option<UnixListener>, by_a_file] {
        let folder = Folder::new(GOOD);
        folder.reconfigure("socket = \"control.sock\"\n", "");
        let (run, session) = (folder.path("run"), folder.path("session"));
        fs::create_dir_all(run.join("portolan")).expect("a folder");
        fs::create_dir(&session).expect("a folder");
        let taken = run.join("portolan/control.sock");
        let _listener = take(&taken);
        let inode = || fs::symlink_metadata(&taken).expect("it is still there").ino();
        let before = inode();
        let Some(mut command) = with_mount(&run, "/run") else {
            return skipped("nobody here may hide /run from the program");
        };
        command.arg(PROGRAM).env("XDG_RUNTIME_DIR", &session);
        let mut served = Served::spawn_by(command, folder);
        served.ready().await;
        assert_eq!(Api::socket(&session.join("portolan.sock")).text("/livez").await, "ok\n");
        assert_eq!(served.stop().await, Some(0));
        assert_eq!(inode(), before);
    }
}

/// Checks that `check` and `serve`, run by the commands that `with` builds, both report these errors.
fn assert_refused_in(with: impl Fn(&str) -> Command, expected: &[&str]) {
    for name in ["check", "serve"] {
        assert_reports(name, &run(with(name)), expected);
    }
}

#[test]
fn a_system_without_certificate_authorities() {
    let folder = Folder::new(&format!(
        "{}\n[probe.edge]\nkind = \"https\"\nhost = \"www.example.test\"\n",
        GOOD.replace("probe = []", "probe = \"edge\"")
    ));
    let without = |name: &str| {
        let mut command = program();
        command.arg(name).arg("-c").arg(folder.config()).env("SSL_CERT_FILE", folder.path("none.pem"));
        command.env_remove("SSL_CERT_DIR");
        command
    };
    let expected = "error: probe `edge` cannot verify certificates: the system's certificate authorities: ";
    assert_refused_in(without, &[expected, "or name the authorities to trust in `ca`"]);
    // They are not needed without a probe that verifies certificates.
    folder.reconfigure("kind = \"https\"", "kind = \"http\"");
    let checked = run(without("check"));
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[test]
fn a_system_without_resolvers() {
    let folder = Folder::new(&GOOD.replace("address = \"192.0.2.1\"", "host = \"lb.example.com\""));
    folder.write("resolv.conf", "# nobody\n");
    let without = |name: &str| {
        let mut command = with_mount(&folder.path("resolv.conf"), "/etc/resolv.conf")?;
        command.arg(PROGRAM).arg(name).arg("-c").arg(folder.config());
        Some(command)
    };
    if without("check").is_none() {
        skipped("nobody here may hide /etc/resolv.conf from the program");
        return;
    }
    let expected = "error: no resolver for the hosts of endpoints: ";
    let without = |name: &str| without(name).expect("it was possible");
    assert_refused_in(without, &[expected, "name one in `resolver` of [node]"]);
}

#[test]
fn an_ipv6_host_of_a_probe_is_accepted_by_check_and_serve() {
    let probe = "\n[probe.edge]\nkind = \"http\"\nhost = \"2001:db8::1\"\n";
    let mut served = Served::spawn(Folder::new(&format!(
        "{}{probe}",
        GOOD.replace("192.0.2.1", "127.0.0.1").replace("probe = []", "probe = \"edge\"")
    )));
    let checked = with_config("check", &served.folder);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        served.logged("it is ready", |line| line["message"] == "ready").await;
        assert_eq!(served.stop().await, Some(0));
    });
}

#[test]
fn an_address_of_another_host() {
    let folder = Folder::new(GOOD);
    folder.reconfigure("[\"127.0.0.1:0\"]", "[\"192.0.2.53:5300\"]");
    let expected = "192.0.2.53 is not an address of this host: add it to an interface or change [dns] listen";
    assert_reports("the address", &serve(&folder), &[expected]);
}

/// The first port that needs no privilege.
fn first_free_port() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    text.trim().parse().unwrap_or(1024)
}

#[test]
fn port_53_without_the_permission() {
    if first_free_port() <= 53 {
        skipped("on this host everybody may listen at port 53");
        return;
    }
    let folder = Folder::new(GOOD);
    folder.reconfigure("[\"127.0.0.1:0\"]", "[\"127.0.0.1:53\"]");
    let mut command = if nix::unistd::geteuid().is_root() {
        if !is_installed("setpriv") {
            skipped("root may do everything, and there is no setpriv to be less");
            return;
        }
        // The program may be in a folder that only root can read, and this folder only its owner.
        let copy = folder.path("portolan");
        fs::hard_link(PROGRAM, &copy).or_else(|_| fs::copy(PROGRAM, &copy).map(drop)).expect("a copy");
        fs::set_permissions(folder.path(""), Permissions::from_mode(0o755)).expect("our folder");
        let mut command = clean(Command::new("setpriv"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]).arg(copy);
        command
    } else {
        program()
    };
    command.arg("serve").arg("-c").arg(folder.config());
    assert_reports(
        "port 53",
        &run(command),
        &[
            "no permission to listen on 127.0.0.1:53: ports below 1024 are privileged",
            "setcap cap_net_bind_service=+ep /",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ],
    );
}

#[test]
fn command_lines_that_are_close_to_a_valid_one_get_a_tip() {
    let plan = |option: &str| format!("the change is an option: portolan plan --{option} region/eu");
    for (arguments, expected) in [
        (&["plan", "drain", "region/eu"][..], plan("drain")),
        (&["plan", "drain", "--share", "25%"], "portolan plan --drain 25%".replace("25%", "TARGET")),
        (&["plan", "restore", "region/eu"], plan("restore")),
        (&["plan", "force", "region/eu", "up"], plan("up")),
        (&["plan", "force", "region/eu", "down"], plan("down")),
        (&["plan", "region/eu"], plan("drain")),
        (&["serve", "my.toml"], "the config is an option: portolan serve -c my.toml".into()),
        (&["explain", "www.example.test", "192.0.2.1"], "the client is an option: --client 192.0.2.1".into()),
        (&["explain", "www.example.test", "AAAA", "--json"], String::new()),
        (&["plan", "sink"], String::new()),
    ] {
        let done = portolan(arguments);
        assert_eq!((done.code, &*done.stdout), (Some(2), ""), "{arguments:?}: {done:?}");
        let tip = done.stderr.lines().find_map(|line| line.trim().strip_prefix("tip: ")).unwrap_or_default();
        assert!(
            tip.ends_with(&*expected) && tip.is_empty() == expected.is_empty(),
            "{arguments:?}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_node_that_cannot_be_reached() {
    let folder = Folder::new(GOOD);
    let config = folder.config().display().to_string();
    let socket = folder.socket().display().to_string();
    folder.write("no.sock", "a file that is no socket");
    let no_socket = folder.path("no.sock").display().to_string();
    // Bound but not listening, so that nothing else gets the port.
    let closed = tokio::net::TcpSocket::new_v4().expect("a socket");
    closed.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let closed = closed.local_addr().expect("an address").to_string();
    folder.reconfigure("listen = \"127.0.0.1:0\"", "listen = false");
    let cases: &[(&[&str], &str)] = &[
        (&["--control", &socket, "status"], &socket),
        (&["--control", &no_socket, "status"], &no_socket),
        (&["status", "-c", &config], &socket),
        (&["--control", &closed, "drain", "region/eu"], &closed),
        (&["--control", &closed, "events", "--follow"], &closed),
        (&["reload", "-c", &config], &socket),
    ];
    for (arguments, place) in cases {
        let done = portolan(arguments);
        assert_eq!((done.code, &*done.stdout), (Some(3), ""), "{arguments:?}: {done:?}");
        let expected = format!("portolan: no node answers at {place}: ");
        assert!(done.stderr.starts_with(&expected), "{arguments:?}: {}", done.stderr);
        let advice =
            "is it running? --control selects another node (HOST:PORT or the path of its control socket)";
        assert!(done.stderr.contains(advice), "{arguments:?}: {}", done.stderr);
    }
    let mut of_environment = program();
    of_environment.env("PORTOLAN_CONTROL", &socket).arg("status");
    let done = run(of_environment);
    let hint = "is it running? PORTOLAN_CONTROL selects it: unset the variable if that node or demo has ended; --control";
    assert!(done.code == Some(3) && done.stderr.contains(hint), "{done:?}");
    let nonsense = portolan(&["--control", "nobody", "status"]);
    assert_eq!(nonsense.code, Some(2), "{nonsense:?}");
    assert!(nonsense.stderr.contains("`nobody` is not a valid node: write HOST:PORT"), "{nonsense:?}");
}

/// Another program than a node answers there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_where_another_program_answers() {
    let other = Region::start("other", 9);
    let place = other.address.to_string();
    let done = portolan(&["--control", &place, "status"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains(&format!("{place} does not speak Portolan's API")), "{done:?}");
    other.fail(Break::Unavailable);
    let done = portolan(&["--control", &place, "status"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains(&format!("{place} answered 503")), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_while_a_node_waits_for_its_first_probes() {
    let region = Region::start("eu", 1);
    region.fail(Break::Hang);
    let config = region.config("{ country = \"IE\" }", &[("timeout", "\"600s\""), ("interval", "\"601s\"")]);
    let mut served = Served::spawn(Folder::new(&config));
    served.dns().await;
    served.signal(Signal::SIGHUP);
    // It keeps running, and reloads its config once it answers.
    served.logged("the config was read again", |line| line["message"] == "reload").await;
    assert_eq!(Api::socket(&served.folder.socket()).text("/readyz").await, "ok\n");
    assert_eq!(served.stop().await, Some(0));

    let mut early = Served::spawn(Folder::new(&config));
    early.dns().await;
    assert!(early.folder.socket().exists());
    assert_eq!(early.stop().await, Some(0));
    assert!(!early.folder.socket().exists(), "it removes its socket");
    assert!(early.log().iter().all(|line| line["message"] != "ready"), "it never started to answer");
}
