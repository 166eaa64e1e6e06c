//! A user's words in messages: short enough to read, and the nearest of those that were possible.

use std::borrow::Cow;

/// The most characters that a message quotes of a value, a name or a path.
pub const QUOTED: usize = 400;

/// The most characters of a message's own words, quotations included.
pub(crate) const SAID: usize = 1500;

/// `text` in about `most` characters: of a longer one the middle is left out. Characters that a terminal would obey are escaped.
pub fn shorten(text: &str, most: usize) -> Cow<'_, str> {
    // Bytes are at least as many as characters, so the usual message needs no count of characters.
    let plain = |text: &str| !text.chars().any(char::is_control);
    if text.len() <= most && plain(text) {
        return text.into();
    }
    let count = text.chars().count();
    let (head, tail) = if count <= most { (count, 0) } else { (most * 3 / 4, most / 4) };
    let mut short = String::new();
    let mut push = |c: char| if c.is_control() { short.extend(c.escape_debug()) } else { short.push(c) };
    text.chars().take(head).for_each(&mut push);
    if count > most {
        format!(" ... ({} characters left out) ... ", count - head - tail).chars().for_each(&mut push);
        text.chars().skip(count - tail).for_each(&mut push);
    }
    short.into()
}

/// The three of `all` that are most like `word`, the best first: "a, b or c".
pub(crate) fn nearest<'a>(word: &str, all: impl IntoIterator<Item = &'a str>) -> String {
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    let mut all: Vec<((usize, usize), &str)> =
        all.into_iter().map(|other| (distance(&word, &other.chars().collect::<Vec<_>>()), other)).collect();
    // Stable: what is equally far keeps its order.
    all.sort_by_key(|(distance, _)| *distance);
    let names: Vec<&str> = all.into_iter().take(3).map(|(_, name)| name).collect();
    match &names[..] {
        [] => String::new(),
        [one] => (*one).into(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The edit distance (insertions, deletions, substitutions, swaps of neighbours) from `a` to the nearest beginning of `b` (0, if
/// `a` is a part of `b`), and then to all of `b`: a name begun is nearer than another one of the right length.
fn distance(a: &[char], b: &[char]) -> (usize, usize) {
    if !a.is_empty() && b.windows(a.len()).any(|part| part == a) {
        return (0, b.len() - a.len());
    }
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        // rows: the one before the last, the last, this one.
        rows[2][0] = i;
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[1][j - 1] + same).min(rows[1][j] + 1).min(rows[2][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = least;
        }
        rows.rotate_left(1);
    }
    (rows[1].iter().copied().min().unwrap_or(0), rows[1][b.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_lose_their_middle_and_control_characters_their_power() {
        assert!(matches!(shorten("short", 10), Cow::Borrowed("short")));
        let long = format!("begin{}end", "x".repeat(100_000));
        let short = shorten(&long, 40);
        assert!(short.len() < 100 && short.starts_with("begin") && short.ends_with("end"), "{short}");
        assert!(short.contains("99968 characters left out"), "{short}");
        assert_eq!(shorten("a\u{1b}[31m\n", 40), "a\\u{1b}[31m\\n");
        assert_eq!(shorten("äöü", 3), "äöü");
        assert!(shorten(&"ä".repeat(1000), 10).contains("left out"));
    }

    #[test]
    fn the_nearest_names_come_first() {
        let names = ["vib-digits", "vib-mnist-paper", "vib-mnist-fast", "vgan-mnist", "energy-8gaussians"];
        assert!(nearest("vib-mnist-fats", names).starts_with("vib-mnist-fast, "));
        assert!(nearest("paper", names).starts_with("vib-mnist-paper, "));
        assert!(nearest("VGAN-MNIST", names).starts_with("vgan-mnist, "));
        assert_eq!(nearest("a", ["b"]), "b");
        assert_eq!(nearest("", ["b", "c"]), "b or c");
        assert_eq!(nearest("x", []), "");
        assert_eq!(distance(&['a', 'b', 'c'], &['a', 'c', 'b', 'd']), (1, 2));
        assert!(!nearest("vib-minst", names).contains("vgan") && nearest("epoch", ["every", "batch", "epochs"]).starts_with("epochs"));
    }
}
