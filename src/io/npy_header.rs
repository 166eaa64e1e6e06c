//! The header of a `.npy` file: a Python dictionary literal with the keys `descr`, `fortran_order` and `shape`.

/// The first bytes of the file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// NumPy leaves room for a first axis of this many digits, so that a file can grow in place.
const GROWTH_DIGITS: usize = 21;

/// The three entries of the dictionary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Byte order and type, "<f4".
    pub descr: String,
    /// Whether the first axis is the one that steps through neighbours.
    pub fortran_order: bool,
    /// Axis lengths; as many as the text has.
    pub shape: Vec<usize>,
}

/// Reads the dictionary; the error says what is wrong with it.
pub(super) fn parse(text: &[u8]) -> Result<Header, &'static str> {
    let mut scanner = Scanner { rest: text };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    scanner.expect(b'{').ok_or("no dictionary")?;
    while !scanner.skip(b'}') {
        let key = scanner.string().ok_or("a key that is not a string")?;
        scanner.expect(b':').ok_or("a key without a colon")?;
        let again = match key {
            b"descr" => {
                let value = scanner.string().and_then(|s| std::str::from_utf8(s).ok()).ok_or("a structured or unknown 'descr'")?;
                descr.replace(value.to_owned()).is_some()
            }
            b"fortran_order" => fortran_order.replace(scanner.boolean().ok_or("a 'fortran_order' that is not True or False")?).is_some(),
            b"shape" => shape.replace(scanner.tuple().ok_or("a 'shape' that is not a tuple of lengths")?).is_some(),
            _ => return Err("an unknown key"),
        };
        if again {
            return Err("a key that occurs twice");
        }
        if !scanner.skip(b',') && !scanner.peek(b'}') {
            return Err("entries that are not separated by commas");
        }
    }
    scanner.space();
    match (scanner.rest, descr, fortran_order, shape) {
        ([], Some(descr), Some(fortran_order), Some(shape)) => Ok(Header { descr, fortran_order, shape }),
        ([], ..) => Err("a missing 'descr', 'fortran_order' or 'shape'"),
        _ => Err("text after the dictionary"),
    }
}

/// Magic number, version 1.0, length and dictionary, padded with spaces to a multiple of 64 bytes as NumPy does.
pub(super) fn encode(header: &Header) -> Vec<u8> {
    let lengths: Vec<_> = header.shape.iter().map(usize::to_string).collect();
    let tuple = match &lengths[..] {
        [one] => format!("({one},)"),
        lengths => format!("({})", lengths.join(", ")),
    };
    let order = if header.fortran_order { "True" } else { "False" };
    let mut text = format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': {tuple}, }}", header.descr);
    if let Some(first) = lengths.first() {
        text.push_str(&" ".repeat(GROWTH_DIGITS.saturating_sub(first.len())));
    }
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

/// The unread text. Every method but `rest` skips white space first.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn peek(&mut self, byte: u8) -> bool {
        self.space();
        self.rest.first() == Some(&byte)
    }

    fn skip(&mut self, byte: u8) -> bool {
        let found = self.peek(byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip(byte).then_some(())
    }

    /// A string in single or double quotes, without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.space();
        let (&quote, rest) = self.rest.split_first().filter(|(b, _)| matches!(b, b'\'' | b'"'))?;
        let end = rest.iter().position(|&b| b == quote)?;
        self.rest = &rest[end + 1..];
        (!rest[..end].contains(&b'\\')).then_some(&rest[..end])
    }

    fn boolean(&mut self) -> Option<bool> {
        self.space();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Some(value);
            }
        }
        None
    }

    /// A length; Python 2 wrote some of them with an L.
    fn length(&mut self) -> Option<usize> {
        self.space();
        let end = self.rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(self.rest.len());
        let value = std::str::from_utf8(&self.rest[..end]).ok()?.parse().ok()?;
        self.rest = &self.rest[end..];
        self.rest = self.rest.strip_prefix(b"L").unwrap_or(self.rest);
        Some(value)
    }

    /// Lengths in parentheses: `()`, `(3,)`, `(2, 3)`.
    fn tuple(&mut self) -> Option<Vec<usize>> {
        self.expect(b'(')?;
        let mut lengths = Vec::new();
        while !self.skip(b')') {
            lengths.push(self.length()?);
            // Python needs the comma after a single element.
            if !self.skip(b',') && (lengths.len() == 1 || !self.peek(b')')) {
                return None;
            }
        }
        Some(lengths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_in_any_order_and_spacing() {
        let header = |shape: &[usize]| Header { descr: "<f4".into(), fortran_order: true, shape: shape.to_vec() };
        let text = b" {\"shape\":(2L, 3L) ,'fortran_order' : True, 'descr':'<f4'} \n";
        assert_eq!(parse(text), Ok(header(&[2, 3])));
        for shape in [&[][..], &[7], &[1, 2, 3]] {
            let bytes = encode(&header(shape));
            assert_eq!(parse(&bytes[10..]), Ok(header(shape)));
            assert_eq!(bytes.len() % 64, 0);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "{",
            "{}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,) } x",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (3,), }",
            "{'descr': '<f4' 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': 'y', }",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
