//! Text in lines of a given width, in characters.

/// Breaks a text at spaces into lines of at most `width` characters, `first` in the first one. A longer word has a line of its own.
/// Blanks before the first word stay.
pub(crate) fn wrap(text: &str, first: usize, width: usize) -> Vec<String> {
    let words = text.trim_start_matches(' ');
    let mut lines = vec![text[..text.len() - words.len()].to_string()];
    for word in words.split(' ') {
        let room = if lines.len() == 1 { first } else { width };
        let line = lines.last_mut().expect("there is always a line");
        if line.trim().is_empty() || length(line) + 1 + length(word) <= room {
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else {
            line.truncate(line.trim_end().len());
            lines.push(word.into());
        }
    }
    lines
}

/// A line broken into several of at most `width` characters, all but the first indented.
pub(crate) fn hang(text: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "    ";
    let mut lines = wrap(text, width, width.saturating_sub(INDENT.len()).max(1));
    lines.iter_mut().skip(1).for_each(|line| line.insert_str(0, INDENT));
    lines
}

/// Lines of a table: the first column to the left, the others to the right, as wide as they must be. Columns that do not fit into `width`
/// follow below, beside the first column again.
pub(crate) fn table(headers: &[String], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    const GAP: usize = 2;
    let all: Vec<&[String]> = std::iter::once(headers).chain(rows.iter().map(|row| &row[..headers.len()])).collect();
    let widths: Vec<usize> = (0..headers.len()).map(|c| all.iter().map(|row| length(&row[c])).max().unwrap_or(0)).collect();
    let mut lines = Vec::new();
    let mut start = 1;
    loop {
        let mut end = start;
        let mut used = widths.first().copied().unwrap_or(0);
        while end < headers.len() && (end == start || width.is_none_or(|width| used + GAP + widths[end] <= width)) {
            used += GAP + widths[end];
            end += 1;
        }
        if start > 1 {
            lines.push(String::new());
        }
        for row in &all {
            let mut line = row.first().map_or(String::new(), |cell| format!("{cell:<width$}", width = widths[0]));
            (start..end).for_each(|c| line += &format!("  {:>width$}", row[c], width = widths[c]));
            lines.push(line.trim_end().into());
        }
        if end >= headers.len() {
            return lines;
        }
        start = end;
    }
}

/// Characters, each of which takes one place.
pub(crate) fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_keep_every_word() {
        assert_eq!(wrap("one two three four", 7, 10), ["one two", "three four"]);
        assert_eq!(wrap("a  b", 9, 9), ["a  b"]);
        assert_eq!(wrap("incomprehensibilities are words", 5, 9), ["incomprehensibilities", "are words"]);
        assert_eq!(wrap("", 5, 5), [""]);
        assert_eq!(wrap("    one two", 9, 9), ["    one", "two"]);
        assert_eq!(hang("epoch 1  loss 0.5  rate 20", 14), ["epoch 1  loss", "    0.5  rate", "    20"]);
    }

    #[test]
    fn tables_break_between_columns() {
        let row = |cells: [&str; 4]| cells.map(String::from).to_vec();
        let (headers, rows) = (row(["", "mean", "±", "unit"]), [row(["error", "9.5", "0.25", "%"])]);
        assert_eq!(table(&headers, &rows, None), ["       mean     ±  unit", "error   9.5  0.25     %"]);
        assert_eq!(table(&headers, &rows, Some(18)), ["       mean     ±", "error   9.5  0.25", "", "       unit", "error     %"]);
        // a column that does not fit at all is shown nevertheless
        assert_eq!(table(&headers, &rows, Some(1)).len(), 8);
        assert_eq!(table(&headers[..1], &rows, Some(1)), ["", "error"]);
    }
}
