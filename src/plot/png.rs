//! PNG files of single images and of grids of small ones.

use std::io::{self, Write};
use std::path::PathBuf;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use crate::error::{Error, Result};
use crate::shape::Shape;

/// The largest width and height this module draws, in pixels: far above any picture to look at, far below what exhausts memory.
const LARGEST: usize = 1 << 15;

/// The gray between the images of a grid, which stands out from black digits, white digits and most photographs alike.
const GAP: u8 = 150;

/// The colour of dots: the first one of the charts.
const DOT: [u8; 3] = [0x1a, 0x7f, 0xc1];

/// The layout of a grid of images of equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Number of images.
    pub count: usize,
    /// 1 for gray, 3 for RGB.
    pub channels: usize,
    /// Pixels from top to bottom of one image.
    pub height: usize,
    /// Pixels from left to right of one image.
    pub width: usize,
    /// Images per row. The last row may be shorter; the rest of it is blank.
    pub columns: usize,
    /// Each pixel becomes a square of this many pixels a side.
    pub scale: usize,
    /// Gray pixels between images and around the grid.
    pub padding: usize,
}

impl Grid {
    /// Width and height of the picture in pixels.
    pub fn size(&self) -> (usize, usize) {
        let columns = self.columns.min(self.count);
        let rows = self.count.div_ceil(self.columns.max(1));
        let side = |images: usize, pixels: usize| {
            images.saturating_mul(pixels.saturating_mul(self.scale).saturating_add(self.padding)).saturating_add(self.padding)
        };
        (side(columns, self.width), side(rows, self.height))
    }
}

/// Draws images as a PNG file: row by row, enlarged without smoothing.
///
/// `images` has shape `[count, channels, height, width]`, row-major; for RGB the three planes of an image follow each other.
///
/// # Errors
/// Another number of bytes, a zero among the sizes, a number of channels other than 1 and 3, or a picture of more than 32,768 pixels a side.
pub fn image_grid(images: &[u8], grid: Grid) -> Result<Vec<u8>> {
    const OP: &str = "image_grid";
    let Grid { count, channels, height, width, columns, scale, padding } = grid;
    let bad = |name, value: usize, expected| Err(Error::OutOfRange { op: OP, name, value: value as f64, expected });
    if channels != 1 && channels != 3 {
        return bad("channels", channels, "1 (gray) or 3 (RGB)");
    }
    for (name, value) in [("count", count), ("height", height), ("width", width), ("columns", columns), ("scale", scale)] {
        if value == 0 {
            return bad(name, value, "at least 1");
        }
    }
    let (total_width, total_height) = grid.size();
    if total_width.max(total_height) > LARGEST {
        return bad("pixels a side", total_width.max(total_height), "at most 32768");
    }
    if [channels, height, width].into_iter().try_fold(count, usize::checked_mul) != Some(images.len()) {
        return Err(Error::WrongLength { op: OP, found: images.len(), shape: Shape::from([count, channels, height, width]) });
    }
    let mut pixels = filled(GAP, total_width * total_height * channels)?;
    for (index, image) in images.chunks_exact(channels * height * width).enumerate() {
        let left = padding + index % columns * (width * scale + padding);
        let top = padding + index / columns * (height * scale + padding);
        for y in 0..height * scale {
            let row = ((top + y) * total_width + left) * channels;
            for (x, out) in pixels[row..row + width * scale * channels].chunks_exact_mut(channels).enumerate() {
                let from = y / scale * width + x / scale;
                out.iter_mut().enumerate().for_each(|(c, v)| *v = image[c * height * width + from]);
            }
        }
    }
    encode(&pixels, total_width, total_height, channels)
}

/// Encodes interleaved RGB bytes, `[height, width, 3]` row-major, as a PNG file.
///
/// # Errors
/// Another number of bytes, or an empty or very large picture.
pub fn encode_rgb(pixels: &[u8], width: usize, height: usize) -> Result<Vec<u8>> {
    let side = width.max(height);
    if width == 0 || height == 0 || side > LARGEST {
        return Err(Error::OutOfRange { op: "encode_rgb", name: "pixels a side", value: side as f64, expected: "1 to 32768" });
    }
    if pixels.len() != width * height * 3 {
        return Err(Error::WrongLength { op: "encode_rgb", found: pixels.len(), shape: Shape::from([height, width, 3]) });
    }
    encode(pixels, width, height, 3)
}

/// The colours of a heat map, from low to high; the brightness rises evenly.
const HEAT: [[u8; 3]; 5] = [[24, 15, 61], [47, 72, 138], [43, 140, 148], [134, 197, 118], [253, 240, 170]];

/// The colour of a share from 0, dark, to 1, bright; gray for what is no number.
pub fn heat(share: f64) -> [u8; 3] {
    let at = share * (HEAT.len() - 1) as f64;
    if at.is_nan() {
        return [GAP; 3];
    }
    let at = at.clamp(0.0, (HEAT.len() - 1) as f64);
    let below = (at as usize).min(HEAT.len() - 2);
    let mix = |channel: usize| {
        let [from, to] = [HEAT[below][channel], HEAT[below + 1][channel]].map(f64::from);
        (from + (to - from) * (at - below as f64)).round() as u8
    };
    [0, 1, 2].map(mix)
}

/// Draws values as colours, dark for `range[0]` and below, bright for `range[1]` and above, as a PNG file: row by row from the
/// top, `width` to each. What is no number is gray.
///
/// # Errors
/// The values do not fill their rows, or there are none or very many.
pub fn heat_map(values: &[f64], width: usize, [low, high]: [f64; 2]) -> Result<Vec<u8>> {
    let pixels: Vec<u8> = values.iter().flat_map(|value| heat((value - low) / (high - low))).collect();
    encode_rgb(&pixels, width, values.len() / width.max(1))
}

/// Draws points as dots on white, `side` pixels a side, as a PNG file: `points` holds `d` coordinates for each, of which the first two
/// are drawn, or with `d` = 1 a histogram. `window` is left, right, bottom, top; what lies outside is not drawn. Dots are
/// translucent, so that dense places are darker.
///
/// # Errors
/// `d` is 0, or `side` is 0 or very large.
pub fn scatter(points: &[f32], d: usize, window: [f64; 4], side: usize) -> Result<Vec<u8>> {
    if d == 0 || !points.len().is_multiple_of(d) {
        return Err(Error::WrongLength { op: "scatter", found: points.len(), shape: Shape::from([points.len() / d.max(1), d]) });
    }
    if side == 0 || side > LARGEST {
        return Err(Error::OutOfRange { op: "scatter", name: "pixels a side", value: side as f64, expected: "1 to 32768" });
    }
    let [left, right, bottom, top] = window;
    let mut pixels = filled(255, side * side * 3)?;
    let place = |v: f32, low: f64, high: f64| {
        let at = (f64::from(v) - low) / (high - low) * side as f64;
        (at >= 0.0 && at < side as f64).then_some(at as usize)
    };
    if d == 1 {
        let mut counts = vec![0usize; side];
        points.iter().filter_map(|&v| place(v, left, right)).for_each(|x| counts[x] += 1);
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        for (x, count) in counts.into_iter().enumerate() {
            (side - count * side / most..side).for_each(|y| blend(&mut pixels, side, x, y, 1.0));
        }
    } else {
        for point in points.chunks_exact(d) {
            let (Some(x), Some(up)) = (place(point[0], left, right), place(point[1], bottom, top)) else { continue };
            let y = side - 1 - up;
            // A disc of three pixels across.
            for (dx, dy, weight) in [(0, 0, 0.6), (-1, 0, 0.3), (1, 0, 0.3), (0, -1, 0.3), (0, 1, 0.3)] {
                if let (Some(x), Some(y)) = (x.checked_add_signed(dx), y.checked_add_signed(dy))
                    && x.max(y) < side
                {
                    blend(&mut pixels, side, x, y, weight);
                }
            }
        }
    }
    encode_rgb(&pixels, side, side)
}

/// A vector of bytes of one value, if there is memory for it.
fn filled(value: u8, count: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(count).map_err(|e| Error::Io {
        path: PathBuf::from("PNG in memory"),
        action: "make room for its pixels",
        source: io::Error::other(e),
    })?;
    bytes.resize(count, value);
    Ok(bytes)
}

/// Mixes the colour of dots into a pixel.
fn blend(pixels: &mut [u8], side: usize, x: usize, y: usize, weight: f64) {
    let at = 3 * (y * side + x);
    for (pixel, dot) in pixels[at..at + 3].iter_mut().zip(DOT) {
        *pixel = (f64::from(*pixel) * (1.0 - weight) + f64::from(dot) * weight).round() as u8;
    }
}

/// The PNG file of pixels of `channels` bytes each, 1 or 3, row by row (PNG specification, third edition, sections 5 and 9).
fn encode(pixels: &[u8], width: usize, height: usize, channels: usize) -> Result<Vec<u8>> {
    let length = width * channels;
    let mut compressed = ZlibEncoder::new(Vec::new(), Compression::default());
    // Rows as differences from the one above (filter 2), which enlarged pixels and smooth maps have few of.
    let (mut above, mut row) = (vec![0; length], vec![2; length + 1]);
    let written = pixels.chunks_exact(length).try_for_each(|pixels| {
        row[1..].iter_mut().zip(pixels).zip(&above).for_each(|((out, &here), &there)| *out = here.wrapping_sub(there));
        above.copy_from_slice(pixels);
        compressed.write_all(&row)
    });
    // Writing to memory fails for a lack of memory only, and that aborts; the signature is wider than that.
    let data = written.and_then(|()| compressed.finish());
    let data = data.map_err(|source| Error::Io { path: PathBuf::from("PNG in memory"), action: "encode", source })?;
    let mut header = [(width as u32).to_be_bytes(), (height as u32).to_be_bytes()].concat();
    // 8 bits; gray or RGB; the one compression and filter method; no interlacing
    header.extend([8, if channels == 1 { 0 } else { 2 }, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", &header), (b"IDAT", &data), (b"IEND", &Vec::new())] {
        let mut checksum = Crc::new();
        checksum.update(kind);
        checksum.update(data);
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(kind);
        out.extend(data);
        out.extend(checksum.sum().to_be_bytes());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use png::ColorType;

    use super::*;

    fn decode(bytes: &[u8]) -> (u32, u32, ColorType, Vec<u8>) {
        let mut reader = png::Decoder::new(io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, info.color_type, pixels)
    }

    #[test]
    fn a_gray_grid_decodes_to_its_pixels() {
        // Three images of 1 x 2 pixels, two per row, doubled, one pixel of padding.
        let grid = Grid { count: 3, channels: 1, height: 1, width: 2, columns: 2, scale: 2, padding: 1 };
        let (width, height, color, pixels) = decode(&image_grid(&[1, 2, 3, 4, 5, 6], grid).unwrap());
        assert_eq!((width, height, color), (11, 7, ColorType::Grayscale));
        let g = GAP;
        assert_eq!(pixels[11..22], [g, 1, 1, 2, 2, g, 3, 3, 4, 4, g]);
        assert_eq!(pixels[11..22], pixels[22..33]);
        assert_eq!(pixels[44..55], [g, 5, 5, 6, 6, g, g, g, g, g, g]);
        assert!(pixels[33..44].iter().all(|&v| v == g));
    }

    #[test]
    fn planes_become_interleaved() {
        let grid = Grid { count: 1, channels: 3, height: 1, width: 2, columns: 9, scale: 1, padding: 0 };
        let (width, height, color, pixels) = decode(&image_grid(&[1, 2, 3, 4, 5, 6], grid).unwrap());
        assert_eq!((width, height, color), (2, 1, ColorType::Rgb));
        assert_eq!(pixels, [1, 3, 5, 2, 4, 6]);
        assert_eq!(decode(&encode_rgb(&pixels, 2, 1).unwrap()).3, pixels);
    }

    #[test]
    fn dots_are_where_their_points_are() {
        let window = [0.0, 10.0, 0.0, 10.0];
        let dark = |points: &[f32], d| {
            let (width, height, _, pixels) = decode(&scatter(points, d, window, 10).unwrap());
            assert_eq!((width, height), (10, 10));
            pixels.chunks(3).enumerate().filter(|(_, p)| p[0] < 150).map(|(i, _)| (i % 10, i / 10)).collect::<Vec<_>>()
        };
        // the second axis points up; what is outside or no number is left out
        assert_eq!(dark(&[2.5, 0.5, -1.0, 5.0, f32::NAN, 3.0, 10.0, 3.0], 2), [(2, 9)]);
        let bars = dark(&[7.2, 7.3, 4.0], 1);
        assert!(bars.len() == 15 && bars.iter().all(|&(x, y)| x == 7 || (x == 4 && y >= 5)), "{bars:?}");
        assert!(dark(&[], 2).is_empty() && scatter(&[1.0], 2, window, 10).is_err() && scatter(&[], 0, window, 10).is_err());
    }

    #[test]
    fn heat_has_its_colours_at_both_ends() {
        let (width, height, _, pixels) = decode(&heat_map(&[-5.0, 1.0, 2.0, 3.0, 9.0, f64::NAN], 3, [1.0, 3.0]).unwrap());
        assert_eq!((width, height), (3, 2));
        let colours: Vec<[u8; 3]> = pixels.chunks(3).map(|p| [p[0], p[1], p[2]]).collect();
        assert_eq!(colours, [HEAT[0], HEAT[0], HEAT[2], HEAT[4], HEAT[4], [GAP; 3]]);
        let brightness = |c: [u8; 3]| c.iter().map(|&v| u32::from(v)).sum::<u32>();
        assert!(HEAT.windows(2).all(|w| brightness(w[0]) < brightness(w[1])));
        assert!(heat_map(&[1.0; 5], 2, [0.0, 1.0]).is_err() && heat_map(&[], 0, [0.0, 1.0]).is_err());
    }

    #[test]
    fn wrong_sizes_are_errors() {
        let good = Grid { count: 2, channels: 1, height: 2, width: 2, columns: 2, scale: 1, padding: 0 };
        assert!(matches!(image_grid(&[0; 7], good), Err(Error::WrongLength { .. })));
        for bad in [
            Grid { count: 0, ..good },
            Grid { channels: 2, ..good },
            Grid { columns: 0, ..good },
            Grid { scale: 0, ..good },
            Grid { scale: usize::MAX, ..good },
            Grid { width: usize::MAX, height: usize::MAX, ..good },
        ] {
            assert!(matches!(image_grid(&[0; 8], bad), Err(Error::OutOfRange { .. })), "{bad:?}");
        }
        assert!(encode_rgb(&[0; 3], 0, 1).is_err() && encode_rgb(&[0; 4], 1, 1).is_err());
        for side in [0, usize::MAX, 1 << 40] {
            assert!(matches!(scatter(&[0.0, 0.0], 2, [0.0, 1.0, 0.0, 1.0], side), Err(Error::OutOfRange { .. })), "{side}");
        }
        assert!(matches!(filled(0, usize::MAX), Err(Error::Io { .. })));
    }
}
