//! Disks that fail: one that stalls, and one that is full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::binary::is_installed;
use super::until;

/// A disk that can stall: reads and writes below one folder then block. A preloaded library blocks them, which works everywhere
/// and without root.
pub(crate) struct Stalling {
    library: PathBuf,
    folder: PathBuf,
    flag: PathBuf,
}

impl Stalling {
    /// The library is built in `beside`. `None` without a C compiler.
    pub(crate) fn new(folder: &Path, beside: &Path) -> Option<Self> {
        if !is_installed("cc") {
            return None;
        }
        let (library, flag) = (beside.join("stall.so"), beside.join("stall"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/harness/stall.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source);
        assert!(cc.status().expect("cc runs").success(), "{cc:?}");
        let folder = fs::canonicalize(folder).expect("the folder exists");
        Some(Self { library, folder, flag })
    }

    /// The environment for the program that is to stall.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 3] {
        [("LD_PRELOAD", &self.library), ("STALL_DIR", &self.folder), ("STALL_WHILE", &self.flag)]
    }

    pub(crate) fn stall(&self) {
        fs::write(&self.flag, "").expect("a file in the temporary folder");
    }

    /// Waits until something has been blocked.
    pub(crate) async fn reached(&self) {
        until("the disk stalls", async || self.has_blocked().then_some(())).await;
    }

    /// Whether something has ever been blocked.
    pub(crate) fn has_blocked(&self) -> bool {
        self.flag.with_extension("reached").exists()
    }

    pub(crate) fn resume(&self) {
        fs::remove_file(&self.flag).expect("it stalls");
    }
}

/// A small file system, mounted for as long as the test runs.
pub(crate) struct Small {
    at: PathBuf,
}

impl Small {
    /// Mounts it at `at`, which is created. `None` if this user may not mount.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !is_installed("mount") {
            return None;
        }
        fs::create_dir_all(at).expect("a folder in the temporary folder");
        let made = Self { at: at.to_owned() };
        made.run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).then_some(made)
    }

    /// Fills the disk with a file.
    pub(crate) fn fill(&self) {
        fs::write(self.filler(), vec![1; 2 << 20]).expect_err("it is smaller than that");
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.filler()).expect("it is filled");
    }

    pub(crate) fn make_read_only(&self) {
        assert!(self.run("mount", &["-o", "remount,ro"]), "it is ours");
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        Command::new(program).args(arguments).arg(&self.at).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.run("umount", &["--lazy"]);
    }
}
