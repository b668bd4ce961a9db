//! What a traffic camera sees, as a picture of a few hundred bytes: sky, road, and a box for each car it counted.
//!
//! PNG (ISO/IEC 15948), four greys, in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::fleet::draw::Key;

const WIDTH: usize = 64;
const HEIGHT: usize = 32;
const ROW_BYTES: usize = WIDTH / 4 + 1;
const HORIZON: usize = 9;
/// Cars that find room in the picture.
const CARS_MAX: u32 = 12;

/// Appends a picture as base64 text.
pub(crate) fn write(count: u32, daylight: bool, draw: Key, out: &mut Vec<u8>) {
    out.extend_from_slice(STANDARD.encode(png(&pixels(count, daylight, draw))).as_bytes());
}

/// Two bits a pixel, each row with its filter byte in front.
fn pixels(count: u32, daylight: bool, draw: Key) -> Vec<u8> {
    let (sky, land, road) = if daylight { (3, 2, 1) } else { (0, 0, 1) };
    let mut rows = vec![0_u8; ROW_BYTES * HEIGHT];
    let mut set = |x: usize, y: usize, grey: u8| {
        let at = y * ROW_BYTES + 1 + x / 4;
        let shift = 6 - 2 * (x % 4);
        rows[at] = rows[at] & !(3 << shift) | grey << shift;
    };
    // The road narrows towards the horizon.
    let half_width = |y: usize| 2 + (y - HORIZON) * 26 / (HEIGHT - HORIZON);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let grey = match y {
                _ if y < HORIZON => sky,
                _ if x.abs_diff(WIDTH / 2) < half_width(y) => road,
                _ => land,
            };
            set(x, y, grey);
        }
    }
    for car in 0..count.min(CARS_MAX) {
        let draw = draw.with(u64::from(car));
        let y = HORIZON + 2 + draw.below(HEIGHT - HORIZON - 6);
        let size = 1 + (y - HORIZON) / 6;
        let room = half_width(y).saturating_sub(size).max(1);
        let x = WIDTH / 2 + draw.with(1).below(2 * room) - room;
        for (dx, dy) in (0..size * 2).flat_map(|dx| (0..size).map(move |dy| (dx, dy))) {
            set(
                (x + dx).min(WIDTH - 1),
                (y + dy).min(HEIGHT - 1),
                if daylight { 0 } else { 3 },
            );
        }
    }
    rows
}

fn png(rows: &[u8]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend((WIDTH as u32).to_be_bytes());
    header.extend((HEIGHT as u32).to_be_bytes());
    // Two bits, greyscale, the only compression and filter methods there are, not interlaced.
    header.extend([2, 0, 0, 0, 0]);
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"IDAT", &miniz_oxide::deflate::compress_to_vec_zlib(rows, 6));
    chunk(&mut file, b"IEND", b"");
    file
}

fn chunk(file: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend(name);
    file.extend(data);
    let check = crc32fast::hash(&file[start..]);
    file.extend(check.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_small_and_whole() {
        for (count, daylight) in [(0, true), (3, false), (90, true)] {
            let mut text = Vec::new();
            write(count, daylight, Key::new(1), &mut text);
            let file = STANDARD.decode(&text).unwrap();
            assert!((100..500).contains(&file.len()), "{} bytes", file.len());
            let mut at = 8;
            let mut data = Vec::new();
            while at < file.len() {
                let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
                let (name, body) = file[at + 4..at + 8 + length].split_at(4);
                let check = u32::from_be_bytes(file[at + 8 + length..at + 12 + length].try_into().unwrap());
                assert_eq!(crc32fast::hash(&file[at + 4..at + 8 + length]), check);
                if name == b"IDAT" {
                    data = miniz_oxide::inflate::decompress_to_vec_zlib(body).unwrap();
                }
                at += 12 + length;
            }
            assert_eq!(data.len(), ROW_BYTES * HEIGHT);
        }
    }
}
