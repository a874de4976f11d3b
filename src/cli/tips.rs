//! Tips for command lines that are close to a valid one.

use std::env;
use std::net::IpAddr;

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::model::Target;

/// An error of the command line, with a tip if one is known.
pub(super) fn with_tip(mut error: Error) -> Error {
    let words: Vec<String> = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(tip) = tip(&error, &words) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn tip(error: &Error, words: &[String]) -> Option<String> {
    let behind = |command: &str| {
        let at = words.iter().position(|word| word == command)?;
        Some(&words[at + 1..])
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return None };
            if let Some(words) = behind("plan") {
                return plan(unknown, words);
            }
            let is_file = !unknown.starts_with('-');
            (behind("serve").is_some() && is_file)
                .then(|| format!("the config is an option: portolan serve -c {unknown}"))
        }
        ErrorKind::MissingRequiredArgument => {
            let client = behind("explain")?.iter().find(|word| word.parse::<IpAddr>().is_ok())?;
            Some(format!("the client is an option: --client {client}"))
        }
        _ => None,
    }
}

/// A change that is written as its command would be.
fn plan(unknown: &str, words: &[String]) -> Option<String> {
    let at = words.iter().position(|word| word == unknown)?;
    let next = words.get(at + 1).filter(|word| !word.starts_with('-'));
    let target = next.or_else(|| words.iter().find(|word| word.parse::<Target>().is_ok()));
    let target = target.map_or("TARGET", String::as_str);
    let (option, target) = match unknown {
        "drain" | "up" | "down" | "restore" => (unknown, target),
        "force" if words.iter().any(|word| word == "up") => ("up", target),
        "force" => ("down", target),
        other if other.parse::<Target>().is_ok() => ("drain", other),
        _ => return None,
    };
    Some(format!("the change is an option: portolan plan --{option} {target}"))
}
