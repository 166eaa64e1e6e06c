//! Everything a run shows to a person: metrics files, TensorBoard events, pictures, the HTML report and progress.
//!
//! All of it works on plain numbers, strings and bytes, so that it can be used and tested without a model.

pub mod columns;
mod drawing;
pub mod html;
pub mod metrics;
pub mod png;
pub mod progress;
pub mod svg;
pub mod tensorboard;

pub use drawing::Drawing;

/// Text as the content or the quoted attribute of XML or HTML.
///
/// Control characters that XML 1.0 forbids become U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c < ' ' || c == '\u{FFFE}' || c == '\u{FFFF}' => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod check {
    //! A tiny check of markup for the tests of this module.

    const VOID: [&str; 3] = ["meta", "img", "br"];

    /// Panics unless tags are balanced and no word of the markup ends as a NaN or an infinity does.
    pub fn markup(text: &str) {
        let number = |word: &str| !word.ends_with("NaN") && !word.ends_with("inf");
        assert!(text.split(|c: char| !c.is_alphanumeric()).all(number), "a number that is none");
        let mut open: Vec<&str> = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('<') {
            let tag = &rest[start + 1..];
            let end = tag.find('>').expect("a tag does not end");
            let (inside, after) = (&tag[..end], &tag[end + 1..]);
            assert_eq!(inside.matches('"').count() % 2, 0, "unbalanced quotes in <{inside}>");
            let name = inside.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
            if inside.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "</{name}> closes another tag");
            } else if !inside.starts_with('!') && !inside.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
            rest = after;
        }
        assert!(open.is_empty(), "left open: {open:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_markup_and_control_characters() {
        assert_eq!(escape("a<b> & \"c\" 'd'\u{1}"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\u{FFFD}");
    }
}
