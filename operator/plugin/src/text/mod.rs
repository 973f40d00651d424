//! Lines for people: data to text, nothing else. Width is what a terminal
//! shows (Unicode Standard Annex 11), not bytes.

mod table;
mod time;

pub use table::Table;
pub use time::{clock, date, human, since};

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What a piece of text means, which says how it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Something goes on.
    Busy,
    /// Somebody should look.
    Bad,
    /// Less important than what is around it.
    Faint,
    /// A heading.
    Strong,
}

impl Tone {
    fn style(self) -> Style {
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
        match self {
            Tone::Plain => Style::new(),
            Tone::Good => colour(AnsiColor::Green),
            Tone::Busy => colour(AnsiColor::Cyan),
            Tone::Bad => colour(AnsiColor::Red),
            Tone::Faint => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        }
    }
}

/// One line, or one cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Tone, String)>);

impl Line {
    /// An empty line.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A line in one tone.
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self::default().with(tone, text)
    }

    /// The line with more text at its end. Control characters, line breaks
    /// among them, become blanks: what others wrote must not steer a terminal.
    pub fn with(mut self, tone: Tone, text: impl Into<String>) -> Self {
        let text: String = text.into();
        let text = if text.chars().any(char::is_control) {
            text.replace(char::is_control, " ")
        } else {
            text
        };
        if !text.is_empty() {
            self.0.push((tone, text));
        }
        self
    }

    /// The line with another line at its end.
    pub fn then(mut self, other: Line) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Columns that the line takes.
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// The text without colours.
    pub fn plain(&self) -> String {
        self.0.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// The text with colours.
    pub fn painted(&self) -> String {
        let mut all = String::new();
        for (tone, text) in &self.0 {
            let style = tone.style();
            all.push_str(&format!("{style}{text}{style:#}"));
        }
        all
    }

    /// The line cut to a number of columns, with a mark where it was cut.
    pub fn cut(&self, columns: usize) -> Line {
        if self.width() <= columns {
            return self.clone();
        }
        let mut room = columns.saturating_sub(1);
        let mut cut = Line::empty();
        for (tone, text) in &self.0 {
            let mut taken = String::new();
            for character in text.chars() {
                let width = character.width().unwrap_or(0);
                if width > room {
                    return cut.with(*tone, taken + "…");
                }
                room -= width;
                taken.push(character);
            }
            cut = cut.with(*tone, taken);
        }
        cut
    }

    fn pad(self, columns: usize) -> Self {
        let missing = columns.saturating_sub(self.width());
        self.with(Tone::Plain, " ".repeat(missing))
    }

    fn without_trailing_blanks(mut self) -> Self {
        while let Some((_, text)) = self.0.last_mut() {
            text.truncate(text.trim_end_matches(' ').len());
            if !text.is_empty() {
                break;
            }
            self.0.pop();
        }
        self
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Line::new(Tone::Plain, text)
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Line::new(Tone::Plain, text)
    }
}

/// Prints lines to standard output, with colours where they are wanted.
///
/// # Errors
/// When standard output is closed.
pub fn print(lines: &[Line]) -> std::io::Result<()> {
    use std::io::Write;
    let mut output = anstream::stdout().lock();
    for line in lines {
        writeln!(output, "{}", line.painted())?;
    }
    output.flush()
}

#[cfg(test)]
pub fn plain(lines: &[Line]) -> String {
    lines.iter().map(|line| line.plain() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_columns_and_not_by_bytes() {
        let line = Line::new(Tone::Good, "✔ 東京 ").with(Tone::Plain, "serves");
        assert_eq!(line.width(), 13);
        assert_eq!(line.cut(13).plain(), "✔ 東京 serves");
        assert_eq!(line.cut(9).plain(), "✔ 東京 s…");
        assert_eq!(line.cut(5).plain(), "✔ 東…");
        assert_eq!(line.cut(6).plain(), "✔ 東…", "half a character is none");
    }

    #[test]
    fn words_of_others_cannot_steer_the_terminal() {
        let line = Line::new(Tone::Plain, "reason\x1b[2J\nwith breaks");
        assert_eq!(line.plain(), "reason [2J with breaks");
    }

    #[test]
    fn colours_end_where_the_text_ends() {
        let painted = Line::new(Tone::Bad, "NO")
            .with(Tone::Plain, " law")
            .painted();
        assert_eq!(painted, "\x1b[31mNO\x1b[0m law");
    }
}
