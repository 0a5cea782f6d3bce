//! Follows the frames of HTTP/2 in a stream of bytes. Knows the heads of frames only (RFC 9113, section 4.1).

/// The length of the head of a frame.
const HEAD: usize = 9;
/// The number of bytes of each payload that are kept.
const KEPT: usize = 8;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameType(u8);

impl FrameType {
    pub(super) const DATA: Self = Self(0);
    pub(super) const HEADERS: Self = Self(1);
    pub(super) const SETTINGS: Self = Self(4);
    pub(super) const PING: Self = Self(6);
    pub(super) const GOAWAY: Self = Self(7);
    pub(super) const CONTINUATION: Self = Self(9);
}

/// What is known of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: FrameType,
    flags: u8,
    is_empty: bool,
    payload: [u8; KEPT],
}

impl Frame {
    /// Whether a frame of HEADERS or CONTINUATION is the last one of its header block.
    pub(super) fn ends_headers(&self) -> bool {
        self.flags & 0x4 != 0
    }

    /// Whether a frame of PING or SETTINGS responds to another one.
    pub(super) fn is_ack(&self) -> bool {
        self.flags & 0x1 != 0
    }

    /// Whether a frame neither belongs to headers, nor has data, nor ends a stream of data.
    pub(super) fn is_overhead(&self) -> bool {
        match self.kind {
            FrameType::HEADERS | FrameType::CONTINUATION => false,
            FrameType::DATA => self.is_empty && self.flags & 0x1 == 0,
            _ => true,
        }
    }

    /// The error code of a frame of GOAWAY.
    pub(super) fn error_code(&self) -> u32 {
        let [.., a, b, c, d] = self.payload;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// Follows the frames of one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct FrameScanner {
    head: [u8; HEAD],
    /// The number of bytes of the head that have been read.
    head_bytes: usize,
    payload: [u8; KEPT],
    /// The number of bytes of the payload that have been read.
    payload_bytes: usize,
}

impl FrameScanner {
    /// Reads the next bytes. Calls `complete` for each frame that ends in them.
    pub(super) fn scan(&mut self, mut bytes: &[u8], mut complete: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let taken = bytes.len().min(HEAD - self.head_bytes);
            self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            bytes = &bytes[taken..];
            if self.head_bytes < HEAD {
                return;
            }
            let taken = bytes.len().min(self.length() - self.payload_bytes);
            if let Some(kept) = self.payload.get_mut(self.payload_bytes..) {
                let kept_bytes = taken.min(kept.len());
                kept[..kept_bytes].copy_from_slice(&bytes[..kept_bytes]);
            }
            self.payload_bytes += taken;
            bytes = &bytes[taken..];
            if self.payload_bytes == self.length() {
                let frame = Frame {
                    kind: FrameType(self.head[3]),
                    flags: self.head[4],
                    is_empty: self.length() == 0,
                    payload: self.payload,
                };
                *self = Self::default();
                complete(frame);
            }
        }
    }

    /// Whether no frame is incomplete.
    pub(super) fn is_between_frames(&self) -> bool {
        self.head_bytes == 0
    }

    /// Whether a frame of DATA is incomplete, and its head is complete.
    pub(super) fn is_in_data(&self) -> bool {
        self.head_bytes == HEAD && FrameType(self.head[3]) == FrameType::DATA
    }

    /// The length of the payload of the incomplete frame.
    fn length(&self) -> usize {
        let [a, b, c, ..] = self.head;
        u32::from_be_bytes([0, a, b, c]) as usize
    }
}

/// The error code by which a server rejects the behavior of a client.
pub(super) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Returns a frame of GOAWAY with the error code ENHANCE_YOUR_CALM and a text. It says that all streams may have been processed,
/// so that clients repeat no write by themselves.
pub(super) fn enhance_your_calm(text: &str) -> Vec<u8> {
    const LAST_STREAM: u32 = u32::MAX >> 1;
    let length = u32::try_from(KEPT + text.len()).unwrap_or_default().to_be_bytes();
    let head = [length[1], length[2], length[3], FrameType::GOAWAY.0, 0, 0, 0, 0, 0];
    let (last_stream, code) = (LAST_STREAM.to_be_bytes(), ENHANCE_YOUR_CALM.to_be_bytes());
    [&head[..], &last_stream, &code, text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        [&head[..], payload].concat()
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_divided() {
        let bytes = [
            frame(4, 1, &[]),
            frame(0, 0, &[7; 300]),
            frame(6, 0, &[1, 2, 3, 4, 5, 6, 7, 8]),
            frame(1, 4, &[9; 70_000]),
            enhance_your_calm("x"),
        ]
        .concat();
        for length in [1, 2, 9, 10, 17, 4096, bytes.len()] {
            let (mut scanner, mut found) = (FrameScanner::default(), Vec::new());
            for part in bytes.chunks(length) {
                scanner.scan(part, |frame| found.push(frame));
            }
            assert!(scanner.is_between_frames());
            let kinds: Vec<u8> = found.iter().map(|frame| frame.kind.0).collect();
            assert_eq!(kinds, [4, 0, 6, 1, 7], "{length}");
            assert!(found[0].is_ack() && !found[2].is_ack() && found[3].ends_headers());
            let overhead: Vec<bool> = found.iter().map(Frame::is_overhead).collect();
            assert_eq!(overhead, [true, false, true, false, true]);
            assert_eq!(
                (found[2].payload, found[4].error_code()),
                ([1, 2, 3, 4, 5, 6, 7, 8], 11)
            );
        }
    }

    #[test]
    fn an_empty_frame_of_data_is_overhead_unless_it_ends_the_stream() {
        for (flags, payload, expected) in [(0, &[][..], true), (1, &[], false), (0, &[7], false)] {
            let mut found = Vec::new();
            FrameScanner::default().scan(&frame(0, flags, payload), |frame| found.push(frame.is_overhead()));
            assert_eq!(found, [expected], "{flags} {payload:?}");
        }
    }

    #[test]
    fn an_incomplete_frame_is_known() {
        let mut scanner = FrameScanner::default();
        let data = frame(0, 0, &[7; 300]);
        scanner.scan(&data[..8], |_| panic!());
        assert!(!scanner.is_between_frames() && !scanner.is_in_data());
        scanner.scan(&data[8..9], |_| panic!());
        assert!(scanner.is_in_data());
        scanner.scan(&data[9..], |_| {});
        assert!(scanner.is_between_frames());
    }
}
