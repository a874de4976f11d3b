//! The secrets of DNS cookies: from a file, or made up.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::LazyLock;

use crate::config::{Cookies, Diagnostic, Unfit, how_to_fix, why_unreadable};
use crate::net;
use crate::wire::cookie::{Secret, Secrets};

/// The most bytes of a file of secrets: two lines, and room for blanks.
const LONGEST: u64 = 256;

/// The secret of this process. It stays the same over reloads, so that cookies stay valid.
static OWN: LazyLock<Secret> = LazyLock::new(|| Secret(net::random::bytes()));

/// The secrets that a config asks for; `None` if cookies are off.
///
/// # Errors
/// Why its file cannot be used.
pub(super) fn secrets(cookies: &Cookies) -> Result<Option<Secrets>, Vec<Diagnostic>> {
    match cookies {
        Cookies::Off => Ok(None),
        Cookies::OwnSecret => Ok(Some(Secrets { current: OWN.clone(), other: None })),
        Cookies::SecretFile { path, at } => read(path).map(Some).map_err(|(why, help)| {
            vec![at.error(format!("cookie secrets {}: {why}", path.display()), help.into())]
        }),
    }
}

/// What is wrong with a file, and what to do about it.
type Wrong = (String, &'static str);

fn read(path: &Path) -> Result<Secrets, Wrong> {
    let unreadable = |error: io::Error| (why_unreadable(&error), how_to_fix(&error));
    // Before it is opened: opening a pipe may never return.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(("not a regular file".into(), "name a file with one secret per line"));
    }
    Unfit::unless_private(metadata.permissions().mode()).map_err(|exposed| {
        let help =
            "anyone who knows the secret can forge cookies: `chmod 640` or `600`, and replace the secret";
        (exposed.to_string(), help)
    })?;
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
    parse(&text).map_err(|why| (why, "make a secret with `openssl rand -hex 16`"))
}

/// Reads one or two secrets, a line each.
fn parse(text: &str) -> Result<Secrets, String> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (first, second) = (lines.next(), lines.next());
    let (Some(first), None) = (first, lines.next()) else {
        return Err("expected one or two secrets, a line each".into());
    };
    Ok(Secrets { current: secret(first)?, other: second.map(secret).transpose()? })
}

fn secret(line: &str) -> Result<Secret, String> {
    const DIGITS: usize = 32;
    let is_hex = line.len() == DIGITS && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = is_hex.then(|| u128::from_str_radix(line, 16).ok()).flatten();
    // The line itself may be a secret with a slip in it.
    let number = number.ok_or_else(|| format!("a secret has {DIGITS} hexadecimal digits"))?;
    Ok(Secret(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    const ONE: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
    const TWO: &str = "445536BCD2513298075A5D379663C962";

    /// The secrets in a file with this content and mode, or what is wrong with it.
    fn read_file(content: &str, mode: u32) -> Result<Secrets, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        read(&path).map_err(|(why, _)| why)
    }

    #[test]
    fn the_first_secret_is_current_and_the_second_accepted() {
        let one = Secret([
            0xe5, 0xe9, 0x73, 0xe5, 0xa6, 0xb2, 0xa4, 0x3f, 0x48, 0xe7, 0xdc, 0x84, 0x9e, 0x37, 0xbf, 0xcf,
        ]);
        assert_eq!(read_file(ONE, 0o600), Ok(Secrets { current: one.clone(), other: None }));
        let both = read_file(&format!("\n {TWO}\r\n\n{ONE}\n"), 0o640).unwrap();
        assert_eq!((both.current.0[0], both.other), (0x44, Some(one)));
    }

    #[test]
    fn files_that_are_no_secrets_are_refused() {
        for content in ["", "\n\n", &format!("{ONE}\n{ONE}\n{TWO}\n"), &" ".repeat(300)] {
            let why = read_file(content, 0o600).unwrap_err();
            assert_eq!(why, "expected one or two secrets, a line each", "{content:?}");
        }
        for content in ["secret", &ONE[1..], &format!("{ONE}0"), &ONE.replace('e', "+"), &format!("{ONE}\nx")]
        {
            let why = read_file(content, 0o600).unwrap_err();
            assert_eq!(why, "a secret has 32 hexadecimal digits", "{content:?}");
        }
    }

    #[test]
    fn secrets_that_every_user_may_read_or_write_are_refused() {
        for (mode, shown) in [(0o604, "604"), (0o644, "644"), (0o602, "602"), (0o777, "777")] {
            let why = read_file(ONE, mode).unwrap_err();
            assert_eq!(why, format!("its mode {shown} gives every user access"));
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let why = |path: &Path| read(path).unwrap_err().0;
        assert_eq!(why(folder.path()), "not a regular file");
        assert_eq!(why(&folder.path().join("none")), "no such file");
    }

    #[test]
    fn the_own_secret_is_random_and_stays() {
        let own = || secrets(&Cookies::OwnSecret).unwrap().unwrap();
        assert_eq!(own(), own());
        assert_ne!(own().current, Secret([0; 16]));
        assert_eq!(secrets(&Cookies::Off), Ok(None));
    }
}
