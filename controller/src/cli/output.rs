//! What commands print: a table for people, JSON for programs. Results go to stdout, everything else to stderr.

use super::Failure;
use comfy_table::{Cell, ContentArrangement, Table, presets};
use fieldpost_shared::time::Timestamp;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The form of a command's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON document for programs.
    Json,
}

/// A table without lines: a header in capitals, columns of the needed width. On a terminal long cells wrap; in a pipe
/// every row stays on one line.
#[must_use]
pub fn table<H: AsRef<str>>(header: &[H], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = bare();
    table.set_header(header.iter().map(|name| Cell::new(name.as_ref().to_uppercase())));
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    trimmed(table)
}

/// Names and values below each other, for one thing looked at closely.
#[must_use]
pub fn fields<N: AsRef<str>>(rows: &[(N, String)]) -> String {
    let mut table = bare();
    for (name, value) in rows {
        table.add_row([name.as_ref().to_owned(), one_line(value)]);
    }
    trimmed(table)
}

fn bare() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if cfg!(test) {
        // Snapshots do not depend on the terminal that runs the tests.
        table.force_no_tty();
    }
    table
}

fn trimmed(mut table: Table) -> String {
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Text from elsewhere (a device's label, a note) without what could steer a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !steers(*c)).collect()
}

/// The same where a line of its own could be taken for one of ours.
fn one_line(text: &str) -> String {
    plain(text).replace('\n', " ")
}

/// Control characters, other ends of lines, and what turns the direction of writing (Unicode's Bidi_Control).
pub(super) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// `1 B`, `2.0 KiB`, `3.4 MiB`: for people, three figures at most.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "a figure for people, rounded to one decimal")]
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS.iter();
    let mut name = unit.next().copied().unwrap_or_default();
    for next in unit {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        name = next;
    }
    format!("{value:.1} {name}")
}

/// `12 s ago`, `3 min ago`, `never`: how long ago something was, in its largest unit.
#[must_use]
pub fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "never".to_owned(), |then| format!("{} ago", span(now.since(then))))
}

/// `45 s`, `3 min`, `2 h`, `5 d`: a duration in its largest unit, rounded down.
#[must_use]
pub fn span(duration: Duration) -> String {
    match duration.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3_600 => format!("{} min", s / 60),
        s @ 3_600..86_400 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

/// `22:13:25`: the time of day, UTC, to the second.
#[must_use]
pub fn time_of_day(at: Timestamp) -> String {
    let text = at.to_string();
    let time = text.split_once('T').map_or(text.as_str(), |(_, time)| time);
    time.split_once('.').map_or(time, |(time, _)| time).trim_end_matches('Z').to_owned()
}

/// Columns of the terminal that results go to; none where nobody's terminal is there to be filled.
#[must_use]
pub fn width() -> Option<usize> {
    use std::io::IsTerminal as _;
    if !io::stdout().is_terminal() {
        return None;
    }
    crossterm::terminal::size().ok().map(|(columns, _)| usize::from(columns.max(40)))
}

/// Where results and notes go.
#[derive(Debug, Clone)]
pub enum Sink {
    /// Results to stdout, notes to stderr.
    Terminal,
    /// Both into memory, for tests.
    Memory(Arc<Mutex<String>>),
}

impl Sink {
    /// Writes a result.
    ///
    /// # Errors
    /// As [`print()`].
    pub fn result(&self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Memory(kept) => {
                keep(kept, text);
                Ok(())
            }
            Self::Terminal => print(text),
        }
    }

    /// Says what is going on, never a result. Failing to say so is no failure of the command.
    pub fn note(&self, text: &str) {
        match self {
            Self::Memory(kept) => keep(kept, text),
            Self::Terminal => note(text),
        }
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> String {
        match self {
            Self::Memory(kept) => kept.lock().unwrap().clone(),
            Self::Terminal => String::new(),
        }
    }
}

fn keep(kept: &Mutex<String>, text: &str) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push_str(text);
    kept.push('\n');
}

/// Writes a line to stdout. A reader that has gone away (`| head`) is no error.
///
/// # Errors
/// When stdout cannot be written for another reason, such as a full disk behind a redirection.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new("cannot write to standard output").because(&error))
        }
        _ => Ok(()),
    }
}

/// Writes a line to stderr.
pub fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let shown: Vec<_> = [0, 1_023, 1_024, 1_536, 5 << 20, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "16384.0 PiB"]);
    }

    #[test]
    fn times_are_told_in_their_largest_unit() {
        let now = Timestamp::from_millis(10 * 86_400_000);
        let check = |s: u64| ago(Some(now.minus(Duration::from_secs(s))), now);
        assert_eq!([check(0), check(59), check(60)], ["0 s ago", "59 s ago", "1 min ago"]);
        assert_eq!([check(7_200), check(200_000)], ["2 h ago", "2 d ago"]);
        assert_eq!(ago(None, now), "never");
    }

    #[test]
    fn what_a_device_says_adds_no_line_and_turns_no_text_around() {
        let said = "lyon\nbox-2\r\u{2028}alive \u{202e}gnp\u{2066}.\u{61c}\u{200f}\u{9b}1m é\u{e9}";
        let text = fields(&[("labels", said.to_owned())]);
        assert_eq!(text, "labels  lyon box-2alive gnp.1m éé");
        assert_eq!(table(&["a"], [vec![said.to_owned()]]).lines().count(), 2);
    }

    #[test]
    fn a_table_has_no_lines_and_its_cells_cannot_steer_the_terminal() {
        let text = table(&["device", "seen"], [vec!["box-1".into(), "\u{1b}[31mnow".into()]]);
        insta::assert_snapshot!(text, @r"
        DEVICE  SEEN
        box-1   [31mnow
        ");
    }
}
