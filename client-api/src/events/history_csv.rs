//! Tables for spreadsheets: RFC 4180, with nothing in a cell that a spreadsheet would run.

/// One line, ended.
pub(crate) fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells: Vec<String> = cells.into_iter().map(cell).collect();
    cells.join(",") + "\r\n"
}

/// A cell. A text that a spreadsheet would take for a formula begins with an apostrophe; a number is left a number.
fn cell(text: &str) -> String {
    let is_number = text.parse::<f64>().is_ok_and(f64::is_finite);
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) && !is_number;
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        for (text, cell) in [
            ("plain", "plain"),
            ("", ""),
            ("-21.5", "-21.5"),
            ("+3", "+3"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+2", "'=1+2"),
            ("=cmd|'/c calc'!A1,2", "\"'=cmd|'/c calc'!A1,2\""),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-a", "'-a"),
            ("\t=1", "'\t=1"),
            ("-inf", "'-inf"),
        ] {
            assert_eq!(super::cell(text), cell, "{text}");
        }
        assert_eq!(line(["a", "b,c"]), "a,\"b,c\"\r\n");
    }
}
