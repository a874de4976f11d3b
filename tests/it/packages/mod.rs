//! What `deploy/package` builds: reproducible, correct in the eyes of those who read it, and installed on a machine of its
//! own, where the service runs under systemd as its unit says.

mod machine;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::binary::{clean, is_installed, run};
use crate::harness::{skipped, until};
use machine::{Machine, package, succeeds};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn has_packaging() -> bool {
    ["dpkg-shlibdeps", "strip", "gzip", "tar"].into_iter().all(is_installed)
}

/// The only file in a folder whose name ends like this.
fn file(folder: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    let mut found = files.filter(|path| path.to_str().expect("UTF-8").ends_with(ending));
    found.next().unwrap_or_else(|| panic!("no {ending} in {}", folder.display()))
}

#[test]
fn packages_are_the_same_bytes_each_time_and_others_can_read_them() {
    if !has_packaging() {
        return skipped("dpkg-dev is not installed");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [first, second, elsewhere] = ["first", "second", "elsewhere"].map(|name| folder.path().join(name));
    fs::create_dir(&elsewhere).expect("a folder");
    package(&first, &[], &[]);
    let differently: [(&str, &OsStr); 3] =
        [("TMPDIR", elsewhere.as_os_str()), ("TZ", "Asia/Tokyo".as_ref()), ("LC_ALL", "C.UTF-8".as_ref())];
    package(&second, &[], &differently);
    let sums = |folder: &Path| fs::read_to_string(folder.join("SHA256SUMS")).expect("sums");
    assert_eq!(sums(&first), sums(&second));
    let mut check = clean(Command::new("sha256sum"));
    check.args(["--check", "--strict", "SHA256SUMS"]).current_dir(&first);
    assert_eq!(run(check).stdout.matches(": OK").count(), 3);

    let mut tar = clean(Command::new("tar"));
    tar.args(["--list", "--file"]).arg(file(&first, "-linux-musl.tar.gz"));
    let listed = succeeds(tar);
    for name in ["portolan", "LICENSE", "share/man/man1/portolan-drain.1", "share/doc/portolan/licences.txt"]
    {
        assert!(listed.lines().any(|line| line == format!("portolan-{VERSION}/{name}")), "{name}: {listed}");
    }
    if is_installed("lintian") {
        let mut lintian = clean(Command::new("lintian"));
        lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(file(&first, ".deb"));
        succeeds(lintian);
    } else {
        skipped("lintian is not installed (Debian package lintian)");
    }
    if !is_installed("skopeo") {
        return skipped("skopeo is not installed (Debian package skopeo)");
    }
    let image = format!("oci-archive:{}", file(&first, ".oci.tar").display());
    let read = |options: &[&str]| -> Value {
        let mut skopeo = clean(Command::new("skopeo"));
        skopeo.arg("inspect").args(options).arg(&image);
        serde_json::from_str(&succeeds(skopeo)).expect("JSON")
    };
    assert_eq!(read(&["--raw"])["schemaVersion"], 2);
    let described = read(&["--config"]);
    let config = &described["config"];
    assert_eq!((&config["User"], &described["os"]), (&"10053:10053".into(), &"linux".into()));
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/bin/portolan"]));
    assert!(config["ExposedPorts"]["53/udp"].is_object(), "{config}");
    // It is complete: skopeo checks each digest when it copies.
    let mut copy = clean(Command::new("skopeo"));
    copy.args(["--insecure-policy", "copy", "--quiet", &image]);
    copy.arg(format!("dir:{}", elsewhere.join("image").display()));
    succeeds(copy);
    let unpacked = folder.path().join("unpacked");
    fs::create_dir(&unpacked).expect("a folder");
    let layer = read(&[])["Layers"][0].as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
    let mut tar = clean(Command::new("tar"));
    tar.args(["--extract", "--gzip", "--file"]).arg(elsewhere.join("image").join(layer));
    succeeds({
        tar.arg("--directory").arg(&unpacked);
        tar
    });
    let state = fs::metadata(unpacked.join("var/lib/portolan")).expect("the state directory");
    assert_eq!(state.permissions().mode() & 0o7777, 0o700);
    assert!(unpacked.join("usr/bin/portolan").exists() && unpacked.join("etc/passwd").exists());
}

/// The same package as a later version.
fn later_version(deb: &Path, folder: &Path) -> PathBuf {
    let (unpacked, later) = (folder.join("later"), folder.join("later.deb"));
    let mut dpkg = clean(Command::new("dpkg-deb"));
    dpkg.arg("--raw-extract").arg(deb).arg(&unpacked);
    succeeds(dpkg);
    let control = unpacked.join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("a control file");
    let changed = text.replace(&format!("Version: {VERSION}-1\n"), &format!("Version: {VERSION}-2\n"));
    assert_ne!(text, changed);
    fs::write(control, changed).expect("it is ours");
    let mut dpkg = clean(Command::new("dpkg-deb"));
    dpkg.args(["-Zgzip", "-z1", "--root-owner-group", "--build"]).arg(&unpacked).arg(&later);
    succeeds(dpkg);
    later
}

const CONFIG: &str = "/etc/portolan/portolan.toml";

#[tokio::test]
async fn the_debian_package_is_installed_upgraded_removed_and_purged_on_a_machine_of_its_own() {
    if !has_packaging() {
        return skipped("dpkg-dev is not installed");
    }
    let Some(machine) = Machine::boot().await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    package(folder.path(), &["deb"], &[]);
    let deb = file(folder.path(), ".deb");
    let later = later_version(&deb, folder.path());
    fs::copy(deb, machine.at("/root/first.deb")).expect("it is ours");
    fs::copy(later, machine.at("/root/later.deb")).expect("it is ours");

    machine.runs(&["dpkg", "--install", "/root/first.deb"]);
    answers(&machine).await;
    unit_holds(&machine);
    operators_need_not_be_root(&machine);
    machine.runs(&["systemctl", "reload", "portolan"]);
    logs_are_rotated(&machine).await;
    upgrades(&machine).await;

    machine.runs(&["dpkg", "--remove", "portolan"]);
    assert_eq!(property(&machine, "ActiveState"), "inactive");
    assert!(machine.at(CONFIG).exists() && machine.at("/var/lib/portolan/portolan.db").exists());
    machine.runs(&["dpkg", "--purge", "portolan"]);
    let left =
        machine.runs(&["find", "/etc", "/lib/systemd", "/usr", "/var", "-xdev", "-iname", "*portolan*"]);
    assert_eq!(left, "", "a purge leaves nothing");
}

/// Waits until the service answers operators and clients.
async fn answers(machine: &Machine) {
    let asked = async || {
        let done = machine.attempts(&["portolan", "status"]);
        assert!(!done.stderr.contains("certificates"), "{done:?}");
        (done.code == Some(0)).then_some(())
    };
    until("the service answers", asked).await;
    assert_eq!(property(machine, "ActiveState"), "active", "{}", machine.journal());
    assert_eq!(machine.runs(&["systemctl", "is-enabled", "portolan"]).trim(), "enabled");
    if !is_installed("dig") {
        return skipped("dig is not installed (Debian package bind9-dnsutils)");
    }
    let dig = ["dig", "@127.0.0.1", "-p", "5300", "+short", "www.gslb.example.com"];
    assert_eq!(machine.asked_from_host(&dig).stdout, "192.0.2.10\n");
}

/// A property of the service, as systemd has it.
fn property(machine: &Machine, name: &str) -> String {
    machine.runs(&["systemctl", "show", "portolan", "--property", name, "--value"]).trim().to_owned()
}

/// The unit is correct, and confines the service as it says.
fn unit_holds(machine: &Machine) {
    let done = machine.attempts(&["systemd-analyze", "verify", "--man=no", "portolan.service"]);
    assert_eq!((done.code, &*done.stderr), (Some(0), ""));
    // Of 100, fewer are better.
    machine.runs(&["systemd-analyze", "security", "--no-pager", "--threshold=16", "portolan.service"]);
    let status = machine.at("/proc/self"); // Only the machine sees its own processes.
    assert!(!status.exists());
    let pid = property(machine, "MainPID");
    let status = machine.runs(&["cat", &format!("/proc/{pid}/status")]);
    let uid = machine.runs(&["id", "--user", "portolan"]).trim().to_owned();
    for (field, expected) in [
        ("Uid:", vec![&*uid; 4]),
        ("CapEff:", vec!["0000000000000400"]),
        ("CapBnd:", vec!["0000000000000400"]),
        ("NoNewPrivs:", vec!["1"]),
        ("Seccomp:", vec!["2"]),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), expected, "{field}");
    }
}

/// Members of the group may use the control socket; others may not.
fn operators_need_not_be_root(machine: &Machine) {
    machine.runs(&["useradd", "--groups", "portolan", "oncall"]);
    machine.runs(&["useradd", "stranger"]);
    let drain = |user: &str| {
        let as_user = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"];
        machine.attempts(&[&as_user[..], &["portolan", "drain", "region/eu-west"]].concat())
    };
    let done = drain("stranger");
    let expected = "permission denied at /run/portolan/control.sock";
    assert!(done.code == Some(1) && done.stderr.contains(expected), "{done:?}");
    let done = drain("oncall");
    assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{done:?}");
}

/// Debian's logrotate renames a log and the node goes on in a new one, readable for the same users as that of the node.
async fn logs_are_rotated(machine: &Machine) {
    if !is_installed("dig") {
        return skipped("dig is not installed (Debian package bind9-dnsutils)");
    }
    let config = fs::read_to_string(machine.at(CONFIG)).expect("a config");
    let log = "/var/log/portolan/queries.log";
    let logging = config.replace("[dns]\n", &format!("[dns]\nquery_log = {{ to = {log:?} }}\n"));
    assert_ne!(config, logging);
    fs::write(machine.at(CONFIG), logging).expect("it is ours");
    let first = property(machine, "MainPID");
    machine.runs(&["systemctl", "restart", "portolan"]);
    answers_after(machine, &first).await;
    let asked = async |name: &'static str| {
        machine.asked_from_host(&["dig", "@127.0.0.1", "-p", "5300", "+short", name]);
        until("the query is logged", async || {
            fs::read_to_string(machine.at(log)).unwrap_or_default().contains(name).then_some(())
        })
        .await;
        machine.runs(&["stat", "--format=%a %U:%G", log])
    };
    let by_node = asked("first.gslb.example.com").await;
    assert_eq!(by_node, "640 portolan:portolan\n");
    let rotate = || machine.attempts(&["logrotate", "--force", "/etc/logrotate.d/portolan"]);
    let done = rotate();
    assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{done:?}");
    assert_eq!(asked("second.gslb.example.com").await, by_node);
    let renamed = fs::read_to_string(machine.at(&format!("{log}.1"))).expect("the renamed file");
    assert!(renamed.contains("first.gslb") && !renamed.contains("second.gslb"), "{renamed}");
    let done = rotate();
    assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{done:?}");
    let older = machine.runs(&["zcat", &format!("{log}.2.gz")]);
    assert_eq!(older, renamed);
}

/// An upgrade restarts the service, but not with a config that the new version refuses. What was set stays.
async fn upgrades(machine: &Machine) {
    let config = fs::read_to_string(machine.at(CONFIG)).expect("a config");
    let first = property(machine, "MainPID");
    fs::write(machine.at(CONFIG), format!("{config}\nmistake = 1\n")).expect("it is ours");
    let done = machine.attempts(&["dpkg", "--install", "/root/later.deb"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("so the node was not restarted"), "{done:?}");
    assert_eq!(property(machine, "MainPID"), first, "it goes on");

    let changed = format!("{config}# by the administrator\n");
    fs::write(machine.at(CONFIG), &changed).expect("it is ours");
    machine.runs(&["dpkg", "--install", "/root/later.deb"]);
    answers_after(machine, &first).await;
    assert_eq!(fs::read_to_string(machine.at(CONFIG)).expect("a config"), changed);
    let overrides = machine.runs(&["portolan", "overrides"]);
    assert!(overrides.contains("region/eu-west"), "{overrides}");
}

/// Waits until another process than `first` answers.
async fn answers_after(machine: &Machine, first: &str) {
    assert_ne!(property(machine, "MainPID"), first);
    let asked = async || (machine.attempts(&["portolan", "status"]).code == Some(0)).then_some(());
    until("the service answers again", asked).await;
}
