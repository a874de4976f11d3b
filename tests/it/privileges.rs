//! A node that root starts gives up root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Group, Uid, User, geteuid};

use crate::harness::binary::{PROGRAM, Served, clean, is_installed, portolan, run};
use crate::harness::folder::Folder;
use crate::harness::skipped;

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

/// Exists on every Debian, as a user and as a group of its own.
const GROUP: &str = "daemon";

fn group_of(path: &Path) -> (String, u32) {
    let found = fs::metadata(path).expect("it exists");
    let group = Group::from_gid(Gid::from_raw(found.gid())).expect("a group database").expect("a group");
    (group.name, found.mode() & 0o777)
}

/// The program as this user with this group, from a copy that everyone may execute.
fn as_user(folder: &Folder, user: &str, group: &str, groups: &[&str]) -> Command {
    let copy = folder.path("portolan");
    if !copy.exists() {
        fs::copy(PROGRAM, &copy).expect("a copy");
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).expect("it is ours");
    }
    let mut command = clean(Command::new("setpriv"));
    command.args(["--reuid", user, "--regid", group]);
    match groups {
        [] => command.arg("--clear-groups"),
        groups => command.args(["--groups", &groups.join(",")]),
    };
    command.arg(copy);
    command
}

fn with_group(folder: Folder) -> Folder {
    folder.reconfigure("[control]\n", &format!("[control]\ngroup = {GROUP:?}\n"));
    fs::set_permissions(folder.path(""), Permissions::from_mode(0o755)).expect("it is ours");
    folder
}

#[tokio::test]
async fn members_of_a_group_may_use_the_control_socket_and_others_may_not() {
    if !geteuid().is_root() || !is_installed("setpriv") {
        return skipped("only root can be several users, by setpriv");
    }
    for owner in ["root", "nobody"] {
        let mut folder = with_group(if owner == "root" { Folder::new("") } else { folder(owner) });
        folder.reconfigure("\"control.sock\"", "\"run/control.sock\"");
        let socket = folder.path("run/control.sock");
        // The second start finds the socket of the first.
        for _ in 0..2 {
            let mut command = clean(Command::new("sh"));
            command.args(["-c", "umask 077 && exec \"$0\" \"$@\"", PROGRAM]);
            let mut served = Served::spawn_by(command, folder);
            served.ready().await;
            assert_eq!(group_of(&socket), (GROUP.into(), 0o660));
            let owned_by = User::from_uid(Uid::from_raw(fs::metadata(&socket).expect("it exists").uid()));
            assert_eq!(owned_by.expect("a user database").expect("a user").name, owner);
            assert_eq!(group_of(&served.folder.path("run")).1, 0o755, "nobody else may replace the socket");
            let reload = |user, group, groups: &[&str]| {
                let mut command = as_user(&served.folder, user, group, groups);
                command.arg("--control").arg(&socket).arg("reload");
                run(command)
            };
            for done in [reload("bin", GROUP, &[]), reload("bin", "bin", &["bin", GROUP])] {
                assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{done:?}");
            }
            let refused = reload("bin", "bin", &[]);
            assert_eq!(refused.code, Some(3), "{refused:?}");
            let expected = "the user that runs the node and the group `daemon` may use this socket; \
                            join the group by `sudo usermod -aG daemon bin` and log in again";
            assert!(refused.stderr.contains(expected), "{refused:?}");
            served.signal(Signal::SIGKILL);
            served.ended().await;
            folder = served.into_folder();
        }
    }
}

#[tokio::test]
async fn whoever_is_denied_at_the_socket_is_told_of_its_group_rather_than_of_tokens() {
    if !geteuid().is_root() || !is_installed("setpriv") {
        return skipped("only root can be several users, by setpriv");
    }
    let folder = with_group(Folder::new(""));
    folder.reconfigure("\"control.sock\"", "\"run/control.sock\"");
    let mut served = Served::start(folder).await;
    let [tcp] = served.addresses(["control"]).await;
    // The commands that change something go on to the TCP address, which wants a token.
    let config = served.folder.path("operator.toml");
    let control = format!("version = 1\n[control]\nlisten = \"{tcp}\"\nsocket = \"run/control.sock\"\n");
    fs::write(&config, control).expect("a config");
    let as_bin = |command: &str| {
        let mut program = as_user(&served.folder, "bin", "bin", &[]);
        program.arg(command).arg("-c").arg(&config);
        run(program)
    };
    let run_folder = served.folder.path("run");
    let socket = run_folder.join("control.sock");
    // A folder that hides the socket has a group, too.
    for mode in [0o755, 0o710] {
        chown(
            &run_folder,
            None,
            Some(Group::from_name(GROUP).expect("groups").expect("a group").gid.as_raw()),
        )
        .expect("root may do that");
        fs::set_permissions(&run_folder, Permissions::from_mode(mode)).expect("it is ours");
        let refused = as_bin("reload");
        let expected = format!(
            "portolan: permission denied at {}: only root, the user that runs the node and the group `daemon` may use \
             this socket; join the group by `sudo usermod -aG daemon bin` and log in again, or use sudo, or the node's \
             TCP address with --control HOST:PORT; {tcp} wants a token\n",
            socket.display()
        );
        assert_eq!((refused.code, &*refused.stderr), (Some(1), &*expected), "{mode:o}");
        // Reads need no token.
        let status = as_bin("status");
        assert!(status.code == Some(0) && status.stderr.contains("permission denied at "), "{status:?}");
    }
    assert_eq!(served.stop().await, Some(0));
}

/// Whether the node may write there depends on the user that runs it.
#[test]
fn check_does_not_judge_the_state_of_another_user_by_the_rights_of_its_own() {
    if !geteuid().is_root() || !is_installed("setpriv") {
        return skipped("only root can be several users, by setpriv");
    }
    let [nobody, bin] = ["nobody", "bin"].map(|name| User::from_name(name).expect("users").expect("a user"));
    let folder = with_group(Folder::new(""));
    let outer = folder.path("outer");
    let state = outer.join("state");
    fs::create_dir_all(&state).expect("a folder");
    folder.reconfigure("state_dir = \"state\"", "state_dir = \"outer/state\"");
    let owned_by = |path: &Path, user: &User, mode| {
        chown(path, Some(user.uid.as_raw()), None).expect("root may do that");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("root may do that");
    };
    let warns = || {
        let mut check = as_user(&folder, "bin", "bin", &[]);
        check.arg("check").arg("-c").arg(folder.config());
        let done = run(check);
        assert_eq!(done.code, Some(0), "{done:?}");
        done.stderr.contains("the current user cannot write to state_dir")
    };
    for (owner, mode, mode_above, expected) in [
        (&nobody, 0o700, 0o755, false),
        (&nobody, 0o755, 0o755, false),
        (&nobody, 0o755, 0o700, false),
        (&bin, 0o700, 0o755, false),
        (&bin, 0o500, 0o755, true),
    ] {
        owned_by(&outer, &nobody, mode_above);
        owned_by(&state, owner, mode);
        assert_eq!(warns(), expected, "{} {mode:o} below {mode_above:o}", owner.name);
    }
    owned_by(&outer, &nobody, 0o755);
    fs::remove_dir(&state).expect("root may do that");
    assert!(warns(), "it does not exist, and this user cannot create it");
}

#[tokio::test]
async fn a_user_without_privileges_gives_the_socket_to_its_own_groups_only() {
    if !geteuid().is_root() || !is_installed("setpriv") {
        return skipped("only root can be several users, by setpriv");
    }
    let nobody = User::from_name("nobody").expect("a user database").expect("it has nobody");
    let folder = with_group(Folder::new(""));
    chown(folder.path(""), Some(nobody.uid.as_raw()), None).expect("root may do that");
    let mut refused = as_user(&folder, "nobody", "nogroup", &[]);
    refused.arg("serve").arg("-c").arg(folder.config());
    let refused = run(refused);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let expected = format!(
        "this process may not give the socket {} to the group `daemon`: start the node as root, or as a user in this group",
        folder.socket().display()
    );
    assert!(refused.stderr.contains(&expected), "{refused:?}");
    assert!(!folder.socket().exists(), "nothing is left behind");
    let mut served = Served::spawn_by(as_user(&folder, "nobody", "nogroup", &[GROUP]), folder);
    served.ready().await;
    assert_eq!(group_of(&served.folder.socket()), (GROUP.into(), 0o660));
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test]
async fn folders_that_hide_or_expose_the_socket_of_a_group_are_reported() {
    if !geteuid().is_root() {
        return skipped("only root may give a socket to any group");
    }
    for (mode, expected) in [
        (0o750, "cannot reach the control socket: the mode of {} is 0750"),
        (0o777, "can replace the control socket: the mode of {} is 0777"),
        (0o1777, ""),
        (0o711, ""),
    ] {
        let folder = with_group(Folder::new(""));
        folder.reconfigure("\"control.sock\"", "\"run/control.sock\"");
        let run_folder = folder.path("run");
        fs::create_dir(&run_folder).expect("a folder");
        fs::set_permissions(&run_folder, Permissions::from_mode(mode)).expect("it is ours");
        let mut served = Served::start(folder).await;
        let warning = served.log().into_iter().find_map(|line| {
            line["message"].as_str().filter(|text| text.contains("the group `daemon`")).map(str::to_owned)
        });
        let run_folder = run_folder.canonicalize().expect("it exists");
        let expected = expected.replace("{}", &run_folder.display().to_string());
        match warning {
            None => assert_eq!(expected, "", "{mode:o}"),
            Some(warning) => assert!(!expected.is_empty() && warning.contains(&expected), "{warning}"),
        }
        assert_eq!(served.stop().await, Some(0));
    }
}

#[tokio::test]
async fn only_the_owner_may_use_the_control_socket() {
    let mut served = Served::start(Folder::new("")).await;
    let socket = fs::metadata(served.folder.socket()).expect("it exists");
    assert_eq!(socket.mode() & 0o777, 0o600);
    assert_eq!(served.stop().await, Some(0));
}
