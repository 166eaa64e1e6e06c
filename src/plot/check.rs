//! A check of markup for the tests of charts and of report pages.

const VOID: [&str; 3] = ["meta", "img", "br"];

/// Panics unless tags are balanced and no word of the markup ends as a NaN or an infinity does.
pub(crate) fn markup(text: &str) {
    let number = |word: &str| !word.ends_with("NaN") && !word.ends_with("inf");
    assert!(text.split(|c: char| !c.is_alphanumeric()).all(number), "NaN or infinity in markup");
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
