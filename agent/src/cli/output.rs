//! Printing: aligned columns for people, JSON for programs.

use super::Output;
use serde::Serialize;
use std::io::{self, Write};

/// Prints a value in the form asked for; `table` is its form for people.
///
/// # Errors
/// When standard output is gone.
pub(crate) fn print(output: Output, value: &impl Serialize, table: &str) -> anyhow::Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(value)?,
        Output::Table => table.trim_end().to_owned(),
    };
    line(&text)
}

/// Prints text and the end of its line, at once.
///
/// # Errors
/// When standard output is gone.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Into::into),
    }
}

/// `name   value` lines.
pub(crate) fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Columns under a header, each as wide as its widest cell.
pub(crate) fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let lines = std::iter::once(&header).chain(rows);
    let width = |column: usize| lines.clone().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            widths.iter().enumerate().map(|(column, width)| format!("{:width$}", cell(row, column))).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    lines.clone().map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["digits".to_owned(), "1.0.0".to_owned()], vec!["a".to_owned(), "2".to_owned()]];
        assert_eq!(super::columns(&["model", "live"], &rows), "model   live\ndigits  1.0.0\na       2\n");
    }
}
