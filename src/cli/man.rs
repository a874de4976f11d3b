//! `portolan man`: the manual, for packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::builder::ValueRange;
use clap::{Arg, ArgAction, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use jiff::Timestamp;

use crate::config::{self, Control};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder to write to; created if missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes a page of section 1 for each command, and one of section 5 for the config.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let out = &arguments.out;
    write_pages(out).with_context(|| format!("cannot write the manual to {}", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// What every page names as its source.
const SOURCE: &str = concat!("portolan ", env!("CARGO_PKG_VERSION"));
/// The manual that the pages are of.
const MANUAL: &str = "Portolan";

fn write_pages(out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let mut all = super::Arguments::command().disable_help_subcommand(true);
    all.build();
    write_command(&all, out)?;
    fs::write(out.join("portolan.toml.5"), config_page())?;
    Ok(())
}

/// The page of a command, and those of the commands below it.
fn write_command(command: &Command, out: &Path) -> Result<()> {
    for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        write_command(below, out)?;
    }
    let page = Man::new(command.clone()).date(date()).source(SOURCE).manual(MANUAL);
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    text.extend(synopsis(command).into_bytes());
    page.render_description_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    page.render_options_section(&mut text)?;
    if command.get_bin_name().is_none_or(|name| name == command.get_name()) {
        text.extend(about_the_program(command).into_bytes());
    } else {
        if let Some(notes) = command.get_after_help() {
            text.extend(section("NOTES").into_bytes());
            text.extend(literal(&notes.to_string()).into_bytes());
        }
        text.extend(see_also(&["portolan(1)", "portolan.toml(5)"]).into_bytes());
    }
    // The line between the help of an option and its values, which mandoc warns of.
    let text = String::from_utf8(text)?.replace(".br\n\n.br\n", ".sp\n");
    fs::write(out.join(page.get_filename()), text)?;
    Ok(())
}

/// The day of the pages: that of the package if it is built reproducibly, else today.
fn date() -> String {
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let at = fixed.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_else(Timestamp::now);
    at.strftime("%Y-%m-%d").to_string()
}

/// How a command is called, with the values of its options.
fn synopsis(command: &Command) -> String {
    let mut line = vec![bold(command.get_bin_name().unwrap_or_else(|| command.get_name()))];
    let is_shown =
        |it: &&Arg| !it.is_hide_set() && !matches!(it.get_action(), ArgAction::Help | ArgAction::Version);
    let (positionals, options): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(is_shown).partition(|it| it.is_positional());
    for argument in options.into_iter().chain(positionals) {
        line.push(roman(" "));
        line.extend(usage(argument));
    }
    if command.has_subcommands() {
        line.push(roman(" "));
        line.extend(optional(!command.is_subcommand_required_set(), vec![italic("COMMAND")]));
    }
    let mut page = Roff::new();
    page.text(line);
    section("SYNOPSIS") + &page.render()
}

/// An option or positional with its values.
fn usage(argument: &Arg) -> Vec<Inline> {
    let short = argument.get_short().map(|name| bold(format!("-{name}")));
    let long = argument.get_long().map(|name| bold(format!("--{name}")));
    let mut parts: Vec<Inline> = Vec::new();
    for name in short.into_iter().chain(long) {
        parts.extend((!parts.is_empty()).then(|| roman("|")));
        parts.push(name);
    }
    let values = argument.get_num_args().filter(ValueRange::takes_values);
    let names = argument.get_value_names().filter(|_| values.is_some()).unwrap_or_default();
    for name in names {
        parts.extend((!parts.is_empty()).then(|| roman(" ")));
        parts.push(italic(name.to_string()));
    }
    if values.is_some_and(|values| values.max_values() > names.len()) {
        parts.push(roman(" ..."));
    }
    optional(!argument.is_required_set(), parts)
}

fn optional(is_optional: bool, parts: Vec<Inline>) -> Vec<Inline> {
    if is_optional { [vec![roman("[")], parts, vec![roman("]")]].concat() } else { parts }
}

/// What the page of the program itself has besides its commands and options.
fn about_the_program(command: &Command) -> String {
    let commands = command.get_subcommands().filter(|it| !it.is_hide_set());
    let mut pages: Vec<String> = commands.map(|it| format!("portolan-{}(1)", it.get_name())).collect();
    pages.push("portolan.toml(5)".into());
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    [
        section("GETTING STARTED"),
        literal(GETTING_STARTED),
        list("FILES", FILES),
        list("ENVIRONMENT", ENVIRONMENT),
        list("EXIT STATUS", EXIT_STATUS),
        see_also(&pages),
    ]
    .concat()
}

const GETTING_STARTED: &str = "\
Without a config, to see what it does: three regions, DNS and a page for browsers on loopback:
  portolan demo

A node of your own: find every mistake in its config, ask it what a client would get, run it:
  portolan check -c portolan.toml
  portolan explain www.example.com --client 192.0.2.1 -c portolan.toml
  portolan serve -c portolan.toml

While it runs: what probes find, whom a drain would move, and the drain:
  portolan status
  portolan plan --drain region/eu-west
  portolan drain region/eu-west --for 30m --reason \"new kernel\"";

/// Each with what it is.
type Terms = &'static [(&'static str, &'static str)];

const FILES: Terms = &[
    (config::DEFAULT_PATH, "The config, unless -c or PORTOLAN_CONFIG names another."),
    (
        Control::DEFAULT_SOCKET,
        "The control socket, unless [control] says otherwise. $XDG_RUNTIME_DIR/portolan.sock is the next to be tried, by nodes \
         that may not create the first, and by commands.",
    ),
    (
        "/var/lib/portolan",
        "Overrides, verdicts, events, the audit log and keys, where [node] state_dir is that folder.",
    ),
    ("/var/log/portolan", "Logs of queries and requests, where the config has them there."),
];

const ENVIRONMENT: Terms = &[
    ("PORTOLAN_CONFIG", "Stands for -c."),
    ("PORTOLAN_CONTROL", "Stands for --control. `portolan demo` prints the one of the demo."),
    ("PORTOLAN_TOKEN", "Stands for --token."),
    ("PORTOLAN_LOG", "What is logged, in place of [log] level, such as `debug` or `portolan::probe=trace`."),
    ("NO_COLOR", "If it is not empty, the output has no colours, unless --color always is given."),
    ("SSL_CERT_FILE", "A PEM file with the authorities that HTTPS trusts, in place of those of the system."),
    ("XDG_RUNTIME_DIR", "The folder of the second control socket; see FILES."),
];

const EXIT_STATUS: Terms = &[
    ("0", "Success."),
    ("1", "Failure: the config has errors, or the node refused the request."),
    ("2", "The command line is not understood."),
    ("3", "The node cannot be reached."),
    ("4", "A safety rule refused the change, or would."),
];

/// A section of terms, each with what it is.
fn list(title: &str, terms: Terms) -> String {
    let mut page = Roff::new();
    for (term, what) in terms {
        page.control("TP", []);
        page.text([bold(*term)]);
        page.text([roman(*what)]);
    }
    section(title) + &page.render()
}

/// The heading of a section.
fn section(title: &str) -> String {
    Roff::new().control("SH", [title]).render()
}

/// Text that keeps its lines.
fn literal(text: &str) -> String {
    let mut page = Roff::new();
    page.control("nf", []);
    for line in text.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page.render()
}

fn see_also(pages: &[&str]) -> String {
    let mut page = Roff::new();
    page.text([roman(pages.join(", "))]);
    section("SEE ALSO") + &page.render()
}

fn config_page() -> String {
    let mut page = Roff::new();
    page.control("TH", ["portolan.toml", "5", &date(), SOURCE, MANUAL]);
    page.control("SH", ["NAME"]);
    page.text([roman("portolan.toml - the config of portolan")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        roman("The config is TOML. "),
        bold("portolan check"),
        roman(" finds every mistake in one. A running node reads it again on SIGHUP and at "),
        bold("portolan reload"),
        roman("; if it has a mistake, the node keeps what it has."),
    ]);
    page.control("SH", ["KEYS"]);
    let (head, keys) = (page.render(), literal(&config::reference()));
    let mut files = Roff::new();
    files.control("SH", ["FILES"]);
    files.text([roman(config::DEFAULT_PATH)]);
    [head, keys, files.render(), see_also(&["portolan(1)", "portolan-check(1)"])].concat()
}
