//! A node that root starts gives up root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use nix::unistd::{User, geteuid};

use crate::harness::binary::{Served, portolan};
use crate::harness::folder::Folder;

fn folder(user: &str) -> Folder {
    let folder = Folder::new("");
    folder.reconfigure("name = \"test\"", &format!("name = \"test\"\nuser = \"{user}\""));
    // The user must be able to reach the config in it.
    fs::set_permissions(folder.path(""), Permissions::from_mode(0o755)).expect("it is ours");
    folder
}

#[tokio::test]
async fn root_is_given_up_once_the_sockets_are_bound() {
    let folder = folder("nobody");
    if !geteuid().is_root() {
        let done = portolan(&["serve", "-c", folder.config().to_str().expect("UTF-8")]);
        assert_eq!(done.code, Some(1));
        assert!(done.stderr.contains("only root can become `nobody`"), "{}", done.stderr);
        return;
    }
    let nobody = User::from_name("nobody").expect("a user database").expect("it has nobody");
    let mut served = Served::start(folder).await;
    let tasks = fs::read_dir(format!("/proc/{}/task", served.pid())).expect("it runs");
    let mut threads = 0;
    for task in tasks {
        let status = fs::read_to_string(task.expect("a thread").path().join("status")).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is in the status");
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
        assert!(field("Uid:").iter().all(|it| *it == uid), "{status}");
        assert!(field("Gid:").iter().all(|it| *it == gid), "{status}");
        assert_eq!(field("CapEff:"), ["0000000000000000"], "{status}");
        threads += 1;
    }
    assert!(threads > 1);
    let limits = fs::read_to_string(format!("/proc/{}/limits", served.pid())).expect("it runs");
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
    // What root would own otherwise belongs to the user, so that state is kept and reloads work.
    for path in ["state", "state/portolan.db", "control.sock"] {
        let owner = fs::metadata(served.folder.path(path)).expect("it exists").uid();
        assert_eq!(owner, nobody.uid.as_raw(), "{path}");
    }
    let (status, reloaded) = served.api().call(reqwest::Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200, "{reloaded}");
    assert_eq!(served.stop().await, Some(0));
}

#[test]
fn a_user_that_does_not_exist_stops_the_start() {
    let folder = folder("no-such-user");
    let done = portolan(&["serve", "-c", folder.config().to_str().expect("UTF-8")]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("there is no user `no-such-user`"), "{}", done.stderr);
}

#[tokio::test]
async fn only_the_owner_may_use_the_control_socket() {
    let mut served = Served::start(Folder::new("")).await;
    let socket = fs::metadata(served.folder.socket()).expect("it exists");
    assert_eq!(socket.mode() & 0o777, 0o600);
    assert_eq!(served.stop().await, Some(0));
}
