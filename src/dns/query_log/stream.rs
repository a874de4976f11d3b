//! Frame Streams (<https://farsightsec.github.io/fstrm/>), the framing of dnstap: the writer's side, over a Unix socket.
//!
//! A data frame is its length in four bytes and its bytes. Length 0 announces a control frame. Writer and reader shake
//! hands: READY, ACCEPT, START; at the end STOP and FINISH.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// What frames contain.
const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
/// How long a reader may take to connect, to answer, or to take what is written.
const WITHIN: Duration = Duration::from_secs(5);
/// How long the reader may take to confirm the end.
const FINISH_WITHIN: Duration = Duration::from_millis(500);
/// The most bytes of a control frame, as the library of Frame Streams has it.
const LONGEST_CONTROL: usize = 512;

const ACCEPT: u32 = 1;
const START: u32 = 2;
const STOP: u32 = 3;
const READY: u32 = 4;
const FINISH: u32 = 5;
/// The one field of control frames.
const CONTENT_TYPE_FIELD: u32 = 1;

/// Appends a data frame, whose content `write` appends.
pub(super) fn append_frame(frames: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = frames.len();
    frames.extend_from_slice(&[0; 4]);
    write(frames);
    let length = (frames.len() - start - 4) as u32;
    frames[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The contents of data frames.
pub(super) fn contents(mut frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = frames.split_first_chunk()?;
        let (content, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        frames = rest;
        Some(content)
    })
}

/// A connection to a reader that has accepted what it gets.
#[derive(Debug)]
pub(super) struct Stream(Socket);

impl Stream {
    /// Connects to the reader at a Unix socket.
    ///
    /// # Errors
    /// If there is none, it is stuck or wants something else.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_write_timeout(Some(WITHIN))?;
        socket.set_read_timeout(Some(WITHIN))?;
        socket.connect(&SockAddr::unix(path)?)?;
        let mut stream = Self(socket);
        stream.0.write_all(&control(READY, Some(CONTENT_TYPE)))?;
        stream.expect(ACCEPT)?;
        stream.0.write_all(&control(START, Some(CONTENT_TYPE)))?;
        Ok(stream)
    }

    /// Writes data frames.
    ///
    /// # Errors
    /// If the reader is gone or stuck. The connection is of no use any more.
    pub(super) fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        self.0.write_all(frames)
    }

    /// Ends the stream.
    pub(super) fn finish(mut self) {
        let ended = self.0.set_read_timeout(Some(FINISH_WITHIN)).and_then(|()| {
            self.0.write_all(&control(STOP, None))?;
            self.expect(FINISH)
        });
        if let Err(error) = ended {
            tracing::debug!(%error, "the reader of dnstap did not confirm the end");
        }
    }

    /// Reads a control frame that must be of this type. One that lists content types must list ours.
    fn expect(&mut self, expected: u32) -> io::Result<()> {
        let wrong = |what: String| io::Error::new(ErrorKind::InvalidData, what);
        let mut head = [0; 8];
        self.0.read_exact(&mut head)?;
        let (escape, length) = (word(&head), word(&head[4..]));
        let length = length.map_or(0, |it| it as usize);
        if escape != Some(0) || !(4..=LONGEST_CONTROL).contains(&length) {
            return Err(wrong("the reader does not speak Frame Streams".into()));
        }
        let mut content = vec![0; length];
        self.0.read_exact(&mut content)?;
        let kind = word(&content);
        if kind != Some(expected) {
            return Err(wrong(format!(
                "the reader sent control frame {} instead of {expected}",
                kind.unwrap_or_default()
            )));
        }
        let (mut fields, mut types) = (&content[4..], Vec::new());
        while let (Some(CONTENT_TYPE_FIELD), Some(length)) = (word(fields), fields.get(4..).and_then(word)) {
            let Some((name, rest)) = fields[8..].split_at_checked(length as usize) else { break };
            types.push(name);
            fields = rest;
        }
        if !types.is_empty() && !types.contains(&CONTENT_TYPE) {
            return Err(wrong("the reader does not accept protobuf:dnstap.Dnstap".into()));
        }
        Ok(())
    }
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|word| u32::from_be_bytes(*word))
}

fn control(kind: u32, content_type: Option<&[u8]>) -> Vec<u8> {
    let mut content = kind.to_be_bytes().to_vec();
    if let Some(name) = content_type {
        content.extend(CONTENT_TYPE_FIELD.to_be_bytes());
        append_frame(&mut content, |content| content.extend_from_slice(name));
    }
    let mut frame = vec![0; 4];
    append_frame(&mut frame, |frame| frame.extend(content));
    frame
}
