//! Reads the files of a config within bounds: none may block, fill the memory or lead elsewhere.

use std::fs::{self, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::config::{Source, Unfit};

/// Reads a regular file.
///
/// # Errors
/// If it cannot be read, or is [`Unfit`].
pub fn read(source: &Source<'_>) -> io::Result<Vec<u8>> {
    let resolved = source.within.map(|folder| resolve(source.path, folder)).transpose()?;
    let path = resolved.as_deref().unwrap_or(source.path);
    // To open a named pipe would wait for its writer, and a terminal could become that of this process.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(Unfit::Irregular(kind_of(metadata.file_type())).into());
    }
    if source.is_secret {
        Unfit::unless_private(metadata.permissions().mode())?;
    }
    if metadata.len() > source.limit {
        return Err(Unfit::TooLarge(source.limit).into());
    }
    // It may grow meanwhile, and files in /proc claim to be empty.
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(source.limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > source.limit { Err(Unfit::TooLarge(source.limit).into()) } else { Ok(bytes) }
}

/// The path without symbolic links, if it lies in the folder.
fn resolve(path: &Path, folder: &Path) -> io::Result<PathBuf> {
    let path = fs::canonicalize(path)?;
    if path.starts_with(fs::canonicalize(folder)?) {
        return Ok(path);
    }
    Err(Unfit::Outside.into())
}

fn kind_of(found: FileType) -> &'static str {
    match () {
        () if found.is_fifo() => "a named pipe",
        () if found.is_char_device() || found.is_block_device() => "a device",
        () => "something else",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;
    use crate::config::{FileKind, why_unreadable};

    fn refused(source: &Source<'_>) -> String {
        why_unreadable(&read(source).expect_err("it is refused"))
    }

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        symlink(at("fifo"), at("link")).unwrap();
        fs::write(at("file"), "text").unwrap();
        for (path, expected) in [
            (at("fifo"), "is a named pipe, not a file"),
            (at("link"), "is a named pipe, not a file"),
            ("/dev/zero".into(), "is a device, not a file"),
            (folder.path().into(), "is a folder, not a file"),
            (at("none"), "no such file"),
        ] {
            assert_eq!(refused(&FileKind::Zone.at(&path)), expected, "{}", path.display());
        }
        assert_eq!(read(&FileKind::Zone.at(&at("file"))).unwrap(), b"text");
    }

    #[test]
    fn sizes_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = fs::File::create(&path).unwrap();
        for kind in
            [FileKind::Config, FileKind::Zone, FileKind::Latency, FileKind::Pem, FileKind::GeoDatabase]
        {
            // It takes no space on the disk.
            file.set_len(kind.limit() + 1).unwrap();
            assert_eq!(refused(&kind.at(&path)), format!("has more than {} bytes", kind.limit()), "{kind}");
        }
        fs::write(&path, "1234").unwrap();
        let source = |limit| Source { path: &path, limit, within: None, is_secret: false };
        assert_eq!(read(&source(4)).unwrap(), b"1234");
        assert!(read(&source(3)).is_err());
        // Its metadata says that it is empty.
        let status =
            Source { path: Path::new("/proc/self/status"), limit: 10, within: None, is_secret: false };
        assert_eq!(refused(&status), "has more than 10 bytes");
    }

    #[test]
    fn keys_that_every_user_may_read_or_write_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.pem");
        fs::write(&path, "key").unwrap();
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for (mode, shown) in [(0o604, "604"), (0o644, "644"), (0o602, "602"), (0o666, "666")] {
            set(mode);
            let why = refused(&FileKind::Key.at(&path));
            assert_eq!(why, format!("its mode {shown} gives every user access"));
            assert_eq!(read(&FileKind::Pem.at(&path)).unwrap(), b"key", "certificates are public");
        }
        for mode in [0o400, 0o600, 0o640, 0o660] {
            set(mode);
            assert_eq!(read(&FileKind::Key.at(&path)).unwrap(), b"key", "{mode:o}");
        }
    }

    #[test]
    fn links_do_not_lead_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("zones/..data")).unwrap();
        fs::write(at("secret"), "secret").unwrap();
        fs::write(at("zones/..data/good"), "good").unwrap();
        symlink("../secret", at("zones/out")).unwrap();
        symlink("..data/good", at("zones/in")).unwrap();
        symlink(at("zones"), at("alias")).unwrap();
        let zones = at("zones");
        let read_at =
            |path: &Path| read(&Source { path, limit: 100, within: Some(&zones), is_secret: false });
        for path in [at("zones/out"), at("secret"), at("alias/out"), "/etc/passwd".into()] {
            assert_eq!(
                why_unreadable(&read_at(&path).unwrap_err()),
                "lies outside the folder of the zone file",
                "{}",
                path.display()
            );
        }
        for path in [at("zones/in"), at("alias/in"), at("zones/..data/good")] {
            assert_eq!(read_at(&path).unwrap(), b"good", "{}", path.display());
        }
    }
}
