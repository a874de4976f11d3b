//! The secrets of session tickets: from a file, or made up.

use std::io;
use std::str;
use std::sync::LazyLock;

use crate::config::{Diagnostic, FileKind, NamedFile, Source, Tickets, how_to_fix, why_unreadable};
use crate::net;
use crate::net::tickets::{self, Secret};

/// The secret of this process. It stays the same over reloads, so that sessions can be resumed.
static OWN: LazyLock<Secret> = LazyLock::new(|| Secret(net::random::bytes()));

const HEX_DIGITS: usize = 64;

/// What makes and opens tickets.
///
/// # Errors
/// Why the file of secrets cannot be used.
pub(super) fn prepare(
    config: &Tickets,
    read: &dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>,
) -> Result<tickets::Tickets, Diagnostic> {
    let Some(file) = &config.secret else { return Ok(tickets::Tickets::new(&OWN, None, config.rotate)) };
    // A key: other users may have no access to it.
    let content = read(&FileKind::Key.at(&file.path))
        .map_err(|error| wrong(file, &why_unreadable(&error), how_to_fix(&error)))?;
    let (current, other) =
        parse(&content).map_err(|why| wrong(file, &why, "make a secret with `openssl rand -hex 32`"))?;
    Ok(tickets::Tickets::new(&current, other.as_ref(), config.rotate))
}

fn wrong(file: &NamedFile, why: &str, help: &str) -> Diagnostic {
    file.at.error(format!("ticket secrets {}: {why}", file.path.display()), help.into())
}

/// Reads one or two secrets, a line each. Messages quote nothing: it may be a secret with a slip in it.
fn parse(content: &[u8]) -> Result<(Secret, Option<Secret>), String> {
    let text = str::from_utf8(content).map_err(|_| "not text".to_owned())?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (first, second) = (lines.next(), lines.next());
    let (Some(first), None) = (first, lines.next()) else {
        return Err("expected one or two secrets, a line each".into());
    };
    Ok((secret(first)?, second.map(secret).transpose()?))
}

fn secret(line: &str) -> Result<Secret, String> {
    let wrong = || format!("a secret has {HEX_DIGITS} hexadecimal digits");
    if line.len() != HEX_DIGITS || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; HEX_DIGITS / 2];
    for (byte, digits) in bytes.iter_mut().zip(line.as_bytes().chunks(2)) {
        let digits = str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(Secret(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_or_two_secrets() {
        let (one, two) = ("0f".repeat(32), "AB".repeat(32));
        for (content, expected) in [
            (format!("{one}\n"), Ok((Secret([0x0f; 32]), None))),
            (format!("\n {two}\r\n{one}\n"), Ok((Secret([0xab; 32]), Some(Secret([0x0f; 32]))))),
            (String::new(), Err("expected one or two secrets, a line each".to_owned())),
            (format!("{one}\n{one}\n{two}"), Err("expected one or two secrets, a line each".to_owned())),
            (one[1..].to_owned(), Err("a secret has 64 hexadecimal digits".to_owned())),
            (one.replace('f', "+"), Err("a secret has 64 hexadecimal digits".to_owned())),
            (format!("{one}\nsecret"), Err("a secret has 64 hexadecimal digits".to_owned())),
        ] {
            assert!(parse(content.as_bytes()) == expected, "{content:?}");
        }
        assert!(parse(b"\xff") == Err("not text".into()));
    }
}
