//! `portolan man`: the manual, for packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::config;

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
    let page = Man::new(command.clone()).source(SOURCE).manual(MANUAL);
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    page.render_options_section(&mut text)?;
    if let Some(notes) = command.get_after_help() {
        Roff::new().control("SH", ["NOTES"]).to_writer(&mut text)?;
        text.extend(literal(&notes.to_string()).into_bytes());
    }
    text.extend(see_also(&["portolan(1)", "portolan.toml(5)"]).into_bytes());
    fs::write(out.join(page.get_filename()), text)?;
    Ok(())
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
    page.control("SH", ["SEE ALSO"]);
    page.text([roman(pages.join(", "))]);
    page.render()
}

fn config_page() -> String {
    let mut page = Roff::new();
    page.control("TH", ["portolan.toml", "5", "", SOURCE, MANUAL]);
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
