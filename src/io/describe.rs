//! Descriptions of unknown bytes.

/// Describes bytes for "found ..." in errors: by the formats that people mix up, as text, or by the bytes themselves.
pub(crate) fn describe(head: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 11] = [
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GIF8", "a GIF image"),
        (b"%PDF", "a PDF document"),
        (b"\x93NUMPY", "a NumPy .npy file"),
        (b"PK\x03\x04", "a zip archive (or .npz)"),
        (b"\x1f\x8b", "a gzip stream"),
        (b"\xfd7zXZ\0", "an xz stream"),
        (b"BZh", "a bzip2 stream"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x80\x02", "a Python pickle"),
    ];
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*name).into();
    }
    if head.len() >= 9 && head[8] == b'{' && head[4..8] == [0; 4] {
        return "what looks like a safetensors file".into();
    }
    if head.len() >= 4 && head[..2] == [0, 0] && matches!(head[2], 8 | 9 | 11..=14) && (1..=4).contains(&head[3]) {
        return "what looks like an IDX file".into();
    }
    let printable = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    if !head.is_empty() && head.iter().all(printable) {
        let line = head.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or(head);
        let kind = if line.starts_with(b"<") { "text (HTML or XML?)" } else { "text" };
        return format!("{kind} that starts {:?}", String::from_utf8_lossy(&line[..line.len().min(32)]));
    }
    let bytes: Vec<_> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("a file that starts with the bytes {}", bytes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions() {
        assert_eq!(describe(b"\x89PNG\r\n\x1a\nxx"), "a PNG image");
        assert_eq!(describe(b"<!DOCTYPE html>\nabc"), "text (HTML or XML?) that starts \"<!DOCTYPE html>\"");
        assert_eq!(describe(&[0, 0, 8, 3]), "what looks like an IDX file");
        assert_eq!(describe(&[0, 1, 2]), "a file that starts with the bytes 00 01 02");
    }
}
