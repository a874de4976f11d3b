//! Bodies in chunks (RFC 9112 §7.1).

use std::io::Write as _;

use bytes::{Buf as _, BytesMut};

use super::request::MOST_HEADERS;

/// Bytes of all extensions of the chunks of a body; hyper's limit.
const MOST_EXTENSIONS: usize = 16 * 1024;
/// Bytes of the trailers of a body; hyper's limit.
const LARGEST_TRAILERS: usize = 16 * 1024;
/// Bytes of the size of a chunk: digits enough for any number of 64 bits.
const SIZE_DIGITS: usize = 16;

/// A body in chunks, as far as it has come.
#[derive(Debug)]
pub(super) struct Chunks {
    next: Next,
    extensions: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Size,
    Data(u64),
    /// The end of the line behind a chunk's data.
    DataEnd,
    Trailers,
    Nothing,
}

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The next bytes of what was received, as many as this, which are the caller's to take.
    Data(usize),
    /// More must be received first.
    Wait,
    End,
}

/// The body is not in chunks, or its extensions or trailers are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Chunks {
    pub(super) fn new() -> Self {
        Self { next: Next::Size, extensions: 0 }
    }

    /// The next part of the body. Takes from what was received what stands before it; trailers are left out.
    ///
    /// # Errors
    /// If what was received does not continue a body in chunks.
    pub(super) fn next(&mut self, received: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self.next {
                Next::Size => match self.size(received)? {
                    None => return Ok(Piece::Wait),
                    Some(0) => self.next = Next::Trailers,
                    Some(size) => self.next = Next::Data(size),
                },
                Next::Data(_) if received.is_empty() => return Ok(Piece::Wait),
                Next::Data(left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(received.len());
                    let left = left - length as u64;
                    self.next = if left == 0 { Next::DataEnd } else { Next::Data(left) };
                    return Ok(Piece::Data(length));
                }
                Next::DataEnd => match received.get(..2) {
                    None if received.first().is_none_or(|byte| *byte == b'\r') => return Ok(Piece::Wait),
                    Some(b"\r\n") => {
                        received.advance(2);
                        self.next = Next::Size;
                    }
                    _ => return Err(Malformed),
                },
                Next::Trailers => {
                    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
                    match httparse::parse_headers(received, &mut headers) {
                        Ok(httparse::Status::Complete((length, _))) if length <= LARGEST_TRAILERS => {
                            received.advance(length);
                            self.next = Next::Nothing;
                        }
                        Ok(httparse::Status::Partial) if received.len() <= LARGEST_TRAILERS => {
                            return Ok(Piece::Wait);
                        }
                        _ => return Err(Malformed),
                    }
                }
                Next::Nothing => return Ok(Piece::End),
            }
        }
    }

    /// Takes the line with the size of a chunk.
    fn size(&mut self, received: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        let left = MOST_EXTENSIONS - self.extensions;
        match httparse::parse_chunk_size(received) {
            Ok(httparse::Status::Complete((length, size))) => {
                let digits = received.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let extension = length.saturating_sub(digits + 2);
                if extension > left {
                    return Err(Malformed);
                }
                self.extensions += extension;
                received.advance(length);
                Ok(Some(size))
            }
            Ok(httparse::Status::Partial) if received.len() <= left + SIZE_DIGITS + 2 => Ok(None),
            _ => Err(Malformed),
        }
    }
}

/// Writes the line that comes before the data of a chunk.
pub(super) fn write_size(size: usize, to: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = write!(to, "{size:x}\r\n");
}

/// What comes after the data of a chunk.
pub(super) const DATA_END: &[u8] = b"\r\n";
/// The last chunk.
pub(super) const LAST: &[u8] = b"0\r\n\r\n";
