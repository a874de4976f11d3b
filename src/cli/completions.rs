//! `portolan completions`: shells ask the program what may follow, so that targets come from the config.
//!
//! What is completed is read from the config that the command line names so far, else `PORTOLAN_CONFIG`, else the
//! default: a config is there before its node runs, and answers at once. Without a valid one only the kinds of targets are
//! offered.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use clap::{ArgMatches, Command};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCompleter, CompletionCandidate, Shell};

use crate::config;
use crate::model::{Target, Topology};
use crate::prepare::files;

/// The environment variable in which a shell that asks for completions names itself.
const VARIABLE: &str = "PORTOLAN_COMPLETE";
/// The first words of targets.
const KINDS: [&str; 4] = ["region/", "endpoint/", "service/", "pool/"];

/// Answers a shell that asks what may follow, and ends the program; otherwise does nothing.
pub(super) fn answer_shell() {
    let offered = || {
        let mut all = command();
        // Adds the options that every command has.
        all.build();
        with_values_first(all)
    };
    CompleteEnv::with_factory(offered).var(VARIABLE).complete();
}

/// Where a value may follow, options are offered only if there is none, or once `-` is typed.
fn with_values_first(command: Command) -> Command {
    let has_values = command.get_positionals().next().is_some();
    let command = command.mut_subcommands(with_values_first);
    if has_values {
        command.mut_args(|it| if it.is_positional() { it } else { it.hide(true) })
    } else {
        command
    }
}

/// The script that makes a shell ask. It finds the program as it was found now.
pub(super) fn script(shell: Shell) -> io::Result<String> {
    let program = PathBuf::from(env::args_os().next().unwrap_or_else(|| "portolan".into()));
    let is_path = program.components().count() > 1;
    let program = if is_path { env::current_dir()?.join(program) } else { program };
    let shells = Shells::builtins();
    let known = shells.completer(&shell.to_string()).expect("each shell has a completer");
    let mut script = Vec::new();
    known.write_registration(VARIABLE, "portolan", "portolan", &program.to_string_lossy(), &mut script)?;
    let mut script = String::from_utf8_lossy(&script).trim_end().to_owned();
    if shell == Shell::Zsh {
        // Loaded from a folder of completions, the script is the body of the function that has to complete.
        script.push_str("\n[[ $funcstack[1] != _portolan ]] || _clap_dynamic_completer_portolan \"$@\"");
    }
    Ok(script)
}

/// Completes a target, one part at a time, as files are completed.
pub(super) fn targets() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let offered = match topology() {
            Some(topology) => names(&topology),
            None => KINDS.iter().map(|kind| (*kind).to_owned()).collect(),
        };
        next_parts(typed, offered)
    })
}

/// Completes the name of a service.
pub(super) fn services() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let services = topology().map(|topology| topology.services).unwrap_or_default();
        next_parts(typed, services.iter().map(|it| it.name.to_string().trim_end_matches('.').to_owned()))
    })
}

fn command() -> Command {
    <super::Arguments as clap::CommandFactory>::command()
}

/// Every target of a config.
fn names(topology: &Topology) -> Vec<String> {
    let regions = topology.regions.iter();
    let services = topology.services.iter().flat_map(|service| {
        let members = service.members.iter().map(|member| topology.region(member.region));
        members.map(|region| Target::Service { service: service.name.clone(), region: region.name.clone() })
    });
    let endpoints = regions.clone().flat_map(|region| {
        let endpoints = region.endpoints.iter();
        endpoints.map(|it| Target::Endpoint { region: region.name.clone(), endpoint: it.name.clone() })
    });
    let backends = topology.pools.iter().flat_map(|pool| {
        let backends = pool.backends.iter();
        backends.map(|it| Target::Backend { pool: pool.name.clone(), backend: it.name.clone() })
    });
    let regions = regions.clone().map(|region| Target::Region(region.name.clone()));
    regions.chain(endpoints).chain(services).chain(backends).map(|target| target.to_string()).collect()
}

/// What is offered that begins with what is typed, up to the end of the part that is being typed.
fn next_parts(typed: &OsStr, offered: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let parts: BTreeSet<String> = offered
        .into_iter()
        .filter(|name| name.starts_with(typed))
        .map(|mut name| {
            let end = name[typed.len()..].find('/').map_or(name.len(), |slash| typed.len() + slash + 1);
            name.truncate(end);
            name
        })
        .collect();
    parts.into_iter().map(CompletionCandidate::new).collect()
}

/// The regions, services and pools of the config that the line names so far.
fn topology() -> Option<Topology> {
    // What is completed stands behind `--`, from the program's name on.
    let words: Vec<OsString> = env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let matches = command().ignore_errors(true).try_get_matches_from(words).ok()?;
    let path = typed_config(&matches).unwrap_or_else(|| config::DEFAULT_PATH.into());
    config::load(&path, &files::read).ok().map(|config| config.topology)
}

/// The config behind the last subcommand that has one, which counts; else the one before it or of the environment.
fn typed_config(matches: &ArgMatches) -> Option<PathBuf> {
    let below = matches.subcommand().and_then(|(_, below)| typed_config(below));
    below.or_else(|| matches.try_get_one::<PathBuf>("config").ok().flatten().cloned())
}
