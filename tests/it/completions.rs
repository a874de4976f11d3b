//! Completions in real shells, and the manual.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::harness::binary::{Killed, PROGRAM, clean, is_installed, portolan, program, run};
use crate::harness::folder::Folder;
use crate::harness::screen::{collect, terminal, written};
use crate::harness::skipped;

const CONFIG: &str = r#"
[region.eu-west]
endpoint = [{ name = "lb1", address = "192.0.2.1" }, { name = "lb2", address = "192.0.2.2" }]
[region.us-east]
endpoint = [{ name = "edge", address = "192.0.2.3" }]
[[service]]
name    = "www.example.test."
regions = ["eu-west", "us-east"]
[[service]]
name    = "api.example.test."
regions = ["us-east"]
[proxy.pool.web]
backend = [{ address = "192.0.2.9:8080" }]
probe   = []
[proxy.listener.web]
listen = "127.0.0.1:0"
route  = [{ pool = "web" }]
"#;

/// Where no config is: its own folder, so that a config of this host does not count.
const NO_CONFIG: &str = "/nonexistent/portolan.toml";

/// What the shells' scripts get for a line of words, of which the last is being completed.
fn offered(config: &str, words: &[&str]) -> Vec<String> {
    let mut command = program();
    command.env("PORTOLAN_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    command.env("_CLAP_IFS", "\n").env("PORTOLAN_CONFIG", config);
    command.args(["--", "portolan"]).args(words);
    let done = run(command);
    assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{words:?}");
    done.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn targets_and_services_are_those_of_the_config() {
    let folder = Folder::new(CONFIG);
    let config = folder.config().display().to_string();
    let cases: [(&[&str], &[&str]); 13] = [
        (&["drain", ""], &["endpoint/", "pool/", "region/", "service/"]),
        (&["drain", "region/"], &["region/eu-west", "region/us-east"]),
        (&["force", "endpoint/"], &["endpoint/eu-west/", "endpoint/us-east/"]),
        (&["restore", "endpoint/eu-west/"], &["endpoint/eu-west/lb1", "endpoint/eu-west/lb2"]),
        (&["drain", "service/a"], &["service/api.example.test/"]),
        (&["drain", "service/api.example.test/"], &["service/api.example.test/us-east"]),
        (&["drain", "pool/web/"], &["pool/web/192.0.2.9:8080"]),
        (&["plan", "--drain", "region/e"], &["region/eu-west"]),
        (&["plan", "--drain=region/e"], &["--drain=region/eu-west"]),
        (&["force", "region/eu-west", ""], &["up", "down"]),
        (&["explain", ""], &["api.example.test", "www.example.test"]),
        (&["drain", "region/nowhere"], &[]),
        (&["drain", "--r"], &["--reason"]),
    ];
    for (words, expected) in cases {
        assert_eq!(offered(&config, words), expected, "{words:?}");
    }
    // Options are offered where no value may follow.
    for words in [&["status", ""][..], &["plan", ""], &["drain", "region/eu-west", ""]] {
        assert!(offered(&config, words).iter().any(|it| it == "--json"), "{words:?}");
    }
    // A config that is typed counts, wherever it stands; without one that is valid, the kinds are offered.
    for words in [["-c", &config, "drain", "region/e"], ["drain", "-c", &config, "region/e"]] {
        assert_eq!(offered(NO_CONFIG, &words), ["region/eu-west"], "{words:?}");
    }
    folder.write("broken.toml", "version = 1\n[region");
    for path in [NO_CONFIG.to_owned(), folder.path("broken.toml").display().to_string()] {
        assert_eq!(offered(&path, &["drain", ""]), ["endpoint/", "pool/", "region/", "service/"]);
        assert_eq!(offered(&path, &["drain", "region/e"]), Vec::<String>::new());
    }
    for target in ["eu-west", "us-east/backend2"] {
        assert!(offered(NO_CONFIG, &["demo", "fail", ""]).iter().any(|it| it == target), "{target}");
    }
}

/// A shell at a terminal that has loaded the completions.
fn interactive(mut command: Command, folder: &Folder, load: &str) -> (Killed, impl AsyncFnMut(&str, &str)) {
    let (master, slave) = terminal(120, 40);
    let other = slave.try_clone().expect("a file");
    let path = format!(
        "{}:{}",
        Path::new(PROGRAM).parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    command.env("PATH", path).env("PORTOLAN_CONFIG", folder.config()).env("TERM", "dumb");
    command.env("HOME", folder.path("")).current_dir(folder.path(""));
    command.stdin(slave).stdout(other.try_clone().expect("a file")).stderr(other);
    let shell = Killed(command.spawn().expect("it starts"));
    drop(command);
    let shown = collect(master.try_clone().expect("a file"));
    let mut keyboard = master;
    keyboard.write_all(format!("{load}; echo load''ed\n").as_bytes()).expect("a terminal");
    let mut is_loaded = false;
    let completes = async move |typed: &str, expected: &str| {
        if !is_loaded {
            written(&shown, "loaded").await;
            is_loaded = true;
        }
        keyboard.write_all(typed.as_bytes()).expect("a terminal");
        written(&shown, expected).await;
    };
    (shell, completes)
}

#[tokio::test]
async fn bash_completes_targets_of_the_config() {
    if !is_installed("bash") {
        return skipped("bash is not installed");
    }
    let folder = Folder::new(CONFIG);
    let mut bash = clean(Command::new("bash"));
    bash.args(["--norc", "--noprofile", "-i"]);
    let (_bash, mut completes) = interactive(bash, &folder, "source <(portolan completions bash)");
    completes("portolan drain reg\t", "drain region/").await;
    completes("\t\t", "region/eu-west  region/us-east").await;
    completes("e\t", "region/eu-west ").await;
    completes("\u{15}portolan restore end\te\tl\t\t\t", "endpoint/eu-west/lb1  endpoint/eu-west/lb2").await;
    completes("\u{15}portolan over\t", "portolan overrides ").await;
}

#[tokio::test]
async fn zsh_completes_targets_of_the_config() {
    if !is_installed("zsh") {
        return skipped("zsh is not installed (Debian package zsh)");
    }
    for (name, load) in [
        ("sourced", "source <(portolan completions zsh)"),
        // As a package has them: zsh loads the file when it is first needed.
        ("installed", "true"),
    ] {
        let folder = Folder::new(CONFIG);
        if name == "installed" {
            folder.write("_portolan", portolan_named_completions("zsh"));
        }
        let mut zsh = clean(Command::new("zsh"));
        zsh.args(["--no-rcs", "-i"]);
        let load = format!("PS1='> '; fpath=($HOME $fpath); autoload -U compinit; compinit -D -u; {load}");
        let (_zsh, mut completes) = interactive(zsh, &folder, &load);
        completes("portolan drain region/e\t", "region/eu-west ").await;
    }
}

/// The script as packages have it, which finds the program by its name.
fn portolan_named_completions(shell: &str) -> String {
    let mut command = clean(Command::new("sh"));
    command.args(["-c", &format!("PATH=${{0%/*}}:$PATH portolan completions {shell}"), PROGRAM]);
    let done = run(command);
    assert!(done.code == Some(0) && !done.stdout.contains(PROGRAM), "{done:?}");
    done.stdout
}

#[test]
fn fish_completes_targets_of_the_config() {
    if !is_installed("fish") {
        return skipped("fish is not installed (Debian package fish)");
    }
    let folder = Folder::new(CONFIG);
    let mut fish = clean(Command::new("fish"));
    let script = format!(
        "{PROGRAM} completions fish | source; complete --do-complete 'portolan drain endpoint/eu-west/'"
    );
    fish.args(["--no-config", "--command", &script]);
    fish.env("HOME", folder.path("")).env("PORTOLAN_CONFIG", folder.config());
    let done = run(fish);
    assert_eq!(
        (done.code, &*done.stdout),
        (Some(0), "endpoint/eu-west/lb1\nendpoint/eu-west/lb2\n"),
        "{done:?}"
    );
}

#[test]
fn the_manual_has_a_page_for_every_command_and_the_config() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("man");
    let done = portolan(&["man", "--out", out.to_str().expect("UTF-8")]);
    assert_eq!((done.code, &*done.stdout, &*done.stderr), (Some(0), "", ""));
    let page = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let help = portolan(&["--help"]).stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands =
        commands.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    let commands: Vec<_> = commands.filter(|name| *name != "help").collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in &commands {
        assert!(page(&format!("portolan-{command}.1")).contains(".SH SYNOPSIS"), "{command}");
    }
    assert!(page("portolan-geo-lookup.1").contains("geo lookup") && page("portolan.1").contains("drain"));
    for title in ["GETTING STARTED", "FILES", "ENVIRONMENT", "EXIT STATUS", "SEE ALSO"] {
        assert!(
            page("portolan.1").lines().any(|line| line.replace('"', "") == format!(".SH {title}")),
            "{title}"
        );
    }
    assert!(page("portolan.1").contains("portolan\\-drain(1), "), "the pages of the commands");
    assert!(!out.join("portolan-man.1").exists(), "a hidden command");
    let config = page("portolan.toml.5");
    for expected in ["[control]", "min_regions", "/etc/portolan/portolan.toml"] {
        assert!(config.replace("\\-", "-").contains(expected), "{expected}");
    }
    if !is_installed("man") {
        return skipped("man is not installed (Debian package man-db)");
    }
    let synopsis = |name: &str| {
        let mut man = clean(Command::new("man"));
        man.args(["--encoding=UTF-8", "--local-file"]).arg(out.join(name)).env("MANWIDTH", "200");
        let text = run(man).stdout;
        let (_, rest) = text.split_once("SYNOPSIS\n").expect("a synopsis");
        let (words, _) = rest.split_once("\n\n").expect("an end");
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (name, expected) in [
        (
            "portolan.1",
            "portolan [--control NODE] [--token SECRET] [-c|--config FILE] [--color WHEN] COMMAND",
        ),
        ("portolan-serve.1", "portolan serve [-c|--config FILE] [--color WHEN]"),
        (
            "portolan-explain.1",
            "portolan explain --client IP [--at TIME] [-H|--header NAME: VALUE] [-X|--method METHOD] [--listener NAME] \
             [--json] [-c|--config FILE] [--control NODE] [--token SECRET] [--color WHEN] NAME|URL [TYPE]",
        ),
    ] {
        assert_eq!(synopsis(name), expected);
    }
    // Whether the pages are correct, line by line.
    for entry in fs::read_dir(&out).expect("a folder") {
        let mut man = clean(Command::new("man"));
        man.args(["--warnings", "--encoding=UTF-8", "--local-file", "-Z"]).arg(entry.expect("a file").path());
        let done = run(man);
        assert_eq!((done.code, &*done.stderr), (Some(0), ""));
    }
    if !is_installed("mandoc") {
        return skipped("mandoc is not installed (Debian package mandoc)");
    }
    let mut mandoc = clean(Command::new("mandoc"));
    mandoc
        .args(["-T", "lint", "-W", "warning"])
        .args(fs::read_dir(&out).expect("a folder").map(|it| it.expect("a file").path()));
    let done = run(mandoc);
    assert_eq!((done.code, &*done.stdout), (Some(0), ""));
}
