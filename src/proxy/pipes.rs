//! Pipes of a thread, by which the kernel moves what one socket has received to another, without a copy (splice(2)).
//!
//! A relay has a pipe only while something is in it.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes that a pipe has room for, if the kernel allows it: as many are moved at once.
const ROOM: usize = 256 * 1024;
/// Pipes that a thread may have. Each takes two open files; a relay that gets none copies.
pub(super) const MOST_PIPES: usize = 16;
/// The part of the proxy's open files that the pipes of all threads may take, besides its connections.
const PIPES_PART: usize = 16;

thread_local! {
    /// Pipes that nothing is in.
    static FREE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    /// Pipes that there are.
    static MADE: Cell<usize> = const { Cell::new(0) };
    /// Pipes that there may be.
    static MOST: Cell<usize> = const { Cell::new(MOST_PIPES) };
}

/// Lets this thread, one of so many, have as many pipes as a proxy with so many open files should.
pub(super) fn allow(files: usize, threads: usize) {
    MOST.set((files / PIPES_PART / 2 / threads.max(1)).min(MOST_PIPES));
}

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
}

impl Pipe {
    /// A pipe that nothing is in; `None` if the thread has as many as it may, or the process as many files.
    pub(super) fn take() -> Option<Self> {
        FREE.with_borrow_mut(Vec::pop).or_else(Self::new)
    }

    fn new() -> Option<Self> {
        if MADE.get() >= MOST.get() {
            return None;
        }
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
        // Users have a limit. Less room means more calls.
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(ROOM as i32)).ok();
        MADE.set(MADE.get() + 1);
        Some(Self { reader, writer, held: 0 })
    }

    /// Gives it back once nothing is in it. One that something is in is closed, so that nobody else gets that.
    pub(super) fn give_back(self) {
        if self.is_empty() {
            FREE.with_borrow_mut(|free| free.push(self));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what the socket has received into the pipe, which must be empty; 0 bytes at the end.
    pub(super) fn poll_fill(&mut self, from: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            let into = &self.writer;
            let moved = from.try_io(Interest::READABLE, || splice_some(from.as_fd(), into.as_fd(), ROOM));
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => {
                    self.held = *moved.as_ref().unwrap_or(&0);
                    return Poll::Ready(moved);
                }
            }
        }
    }

    /// Moves what is in the pipe to the socket, as far as that takes it.
    pub(super) fn poll_drain(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(cx))?;
            let (out, held) = (&self.reader, self.held);
            let moved = to.try_io(Interest::WRITABLE, || splice_some(out.as_fd(), to.as_fd(), held));
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => {
                    self.held -= *moved.as_ref().unwrap_or(&0);
                    return Poll::Ready(moved);
                }
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // The thread may be about to end.
        MADE.try_with(|made| made.set(made.get() - 1)).ok();
    }
}

fn splice_some(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    Ok(splice(from, None, to, None, most, flags)?)
}

#[cfg(test)]
pub(super) fn made() -> usize {
    MADE.get()
}
