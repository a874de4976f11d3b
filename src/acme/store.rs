//! Files in the state directory: a certificate with its key, and the accounts. A file is replaced as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The mode of the files: they hold private keys.
const MODE: u32 = 0o600;
/// The mode of their folder.
const FOLDER_MODE: u32 = 0o700;

/// Replaces a file. Once this returns, it is on the disk; if it fails, the file before is still there.
pub(super) async fn save(path: PathBuf, content: String) -> io::Result<()> {
    tokio::task::spawn_blocking(move || replace(&path, content.as_bytes())).await.map_err(io::Error::other)?
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    let temporary = path.with_extension("new");
    // What an interrupted run left.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    written?;
    File::open(folder)?.sync_all()
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_private_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certs/a.pem");
        replace(&path, b"one").unwrap();
        fs::write(path.with_extension("new"), "left over").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);

        // What cannot be put in place leaves nothing behind, and the old file alone.
        let taken = folder.path().join("certs/b.pem");
        fs::create_dir_all(taken.join("full")).unwrap();
        replace(&taken, b"three").unwrap_err();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    }
}
