//! Faults for tests: a part that panics, blocks or does what it must not where it would do its work.
//!
//! A debug build whose environment has `PORTOLAN_FAULTS=FOLDER` looks there at each [`point`]: the part panics if the
//! file `PART.panic` exists, and blocks its thread while `PART.stall` does. It writes to the file that `PART.write`
//! names and executes the program that `PART.execute` names, and logs whether it could. Release builds, which have no
//! debug assertions, contain nothing of it. A Cargo feature would do as well, but could be enabled in a package by
//! accident, and the tests of the default build could not use it.

/// The parts that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The engine, once a second.
    Engine,
    /// The journal's thread, at each write.
    Journal,
    /// The journal's thread, while it writes what is not a change of overrides.
    JournalSave,
    /// The journal's thread, at each request.
    JournalThread,
    /// A probe, before it connects.
    Probe,
    /// The task of a check, between probes.
    Check,
    /// The task that resolves a host, at each lookup.
    Lookup,
    /// The task that reloads, at each request.
    Reload,
    /// A UDP worker, at each batch and while it waits.
    UdpWorker,
    /// A TCP listener, at each connection and while it waits.
    TcpListener,
    /// The control API's listeners, at each request.
    Api,
    /// The control API's listeners, at each connection.
    ApiListener,
}

/// Does nothing in release builds.
#[cfg(not(debug_assertions))]
#[inline]
pub fn point(_: At) {}

/// Fails as the environment says.
#[cfg(debug_assertions)]
pub fn point(at: At) {
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::thread::sleep;
    use std::time::Duration;

    static FOLDER: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("PORTOLAN_FAULTS").map(PathBuf::from));
    const POLL: Duration = Duration::from_millis(5);

    let Some(folder) = &*FOLDER else { return };
    let file = |what: &str| folder.join(format!("{at:?}.{what}"));
    assert!(!file("panic").exists(), "a fault at {at:?}, for a test");
    if let Ok(path) = std::fs::read_to_string(file("write")) {
        let outcome = std::fs::write(&path, "a fault").map_err(|error| error.kind());
        tracing::error!(?at, path, ?outcome, "a fault wrote a file");
    }
    if let Ok(path) = std::fs::read_to_string(file("execute")) {
        let outcome = std::process::Command::new(&path).status().map_err(|error| error.kind());
        tracing::error!(?at, path, ?outcome, "a fault executed a program");
    }
    while file("stall").exists() {
        sleep(POLL);
    }
}
