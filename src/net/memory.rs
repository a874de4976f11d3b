//! Returns freed memory to the system.

#![allow(unsafe_code, reason = "no crate wraps malloc_trim")]

/// Returns unused pages of the allocator to the system. Compiling a plan takes several times the memory of the
/// plan, and glibc would keep the difference: 75 MB with the builtin geo data. Takes milliseconds; not for threads
/// that answer queries.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes no pointers and may be called at any time from any thread (malloc_trim(3)).
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
