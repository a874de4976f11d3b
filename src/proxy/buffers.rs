//! Buffers that nothing is in, of a thread.
//!
//! A connection has a buffer only while something is in it: idle connections take no memory for it, and the buffer that the next
//! one gets is the last that was used, which the CPU still has in its cache.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes of a buffer to read into: most responses fit, and the largest that the allocator takes from its heap.
pub(super) const READ: usize = 64 * 1024;
/// Bytes of a buffer to write from, at first: most heads fit.
const WRITE: usize = 1024;
/// Bytes of a buffer to write from, at most, that is kept.
const MOST_KEPT: usize = 16 * 1024;
/// Buffers of each kind that a thread keeps.
const KEPT: usize = 16;

#[derive(Default)]
struct Free {
    to_read: Vec<BytesMut>,
    to_write: Vec<Vec<u8>>,
}

thread_local! {
    static FREE: RefCell<Free> = RefCell::default();
}

/// An empty buffer to read into.
pub(super) fn to_read() -> BytesMut {
    let kept = FREE.with_borrow_mut(|free| free.to_read.pop());
    kept.unwrap_or_else(|| BytesMut::with_capacity(READ))
}

/// An empty buffer to write from.
pub(super) fn to_write() -> Vec<u8> {
    let kept = FREE.with_borrow_mut(|free| free.to_write.pop());
    kept.unwrap_or_else(|| Vec::with_capacity(WRITE))
}

/// Takes a buffer back, with whatever is in it.
pub(super) fn give_back_read(mut buffer: BytesMut) {
    buffer.clear();
    // One that had to grow, or was made for less, is not kept.
    if buffer.try_reclaim(READ) && buffer.capacity() == READ {
        FREE.with_borrow_mut(|free| {
            if free.to_read.len() < KEPT {
                free.to_read.push(buffer);
            }
        });
    }
}

/// Takes a buffer back, with whatever is in it.
pub(super) fn give_back_written(mut buffer: Vec<u8>) {
    buffer.clear();
    if (1..=MOST_KEPT).contains(&buffer.capacity()) {
        FREE.with_borrow_mut(|free| {
            if free.to_write.len() < KEPT {
                free.to_write.push(buffer);
            }
        });
    }
}
