//! The `portolan` command.

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, which would keep resident what has been freed around a few bytes in use.
    nix::sys::prctl::set_thp_disable(true).ok();
    portolan::cli::main()
}
