//! Frames of which any receiver can say whether they are what was sent: a number, a length, and a pattern of both.
//!
//! | bytes | |
//! |---|---|
//! | 0-11 | addresses, which a forwarder may change: not looked at |
//! | 12-13 | 0x88b5 |
//! | 14-17 | number, little endian |
//! | 18-19 | length of the frame, little endian |
//! | 20 and on | byte k is number + 7 k, its low eight bits |

/// Shortest frame that has all of it.
pub const LEAST: usize = 60;
const HEAD: usize = 20;

/// A frame.
pub fn make(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.extend(number.to_le_bytes());
    frame.extend((len as u16).to_le_bytes());
    frame.extend((HEAD..len).map(|k| pattern(number, k)));
    frame
}

fn pattern(number: u32, k: usize) -> u8 {
    (number as u8).wrapping_add((7 * k) as u8)
}

/// What a frame that came is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The frame of this number, to the byte.
    Whole(u32),
    /// The beginning of one, or less than can be told.
    Cut,
    /// One, and more bytes.
    Longer(u32),
    /// Something else.
    Foreign,
}

/// Looks at a frame.
pub fn look(frame: &[u8]) -> Kind {
    if frame.len() < HEAD {
        return Kind::Cut;
    }
    let number = u32::from_le_bytes(frame[14..18].try_into().unwrap());
    let len = usize::from(u16::from_le_bytes([frame[18], frame[19]]));
    let right = frame[12..14] == [0x88, 0xb5]
        && len >= LEAST
        && frame.iter().enumerate().take(len).skip(HEAD).all(|(k, byte)| *byte == pattern(number, k));
    match frame.len().cmp(&len) {
        _ if !right => Kind::Foreign,
        std::cmp::Ordering::Equal => Kind::Whole(number),
        std::cmp::Ordering::Less => Kind::Cut,
        std::cmp::Ordering::Greater => Kind::Longer(number),
    }
}
