//! Redraws in place without flicker: each frame is one write, covers the one
//! before line by line, and is shown at once by terminals that can
//! (synchronized output, private mode 2026).

use crate::text::{Line, Tone};
use std::io::{self, Write};

const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
const END: &str = "\x1b[?25h\x1b[?1049l";

/// The alternate screen of a terminal; what it showed last stays on the usual
/// one when it is over.
pub struct Screen {
    painted: bool,
    last: Vec<String>,
}

impl Screen {
    /// Takes the terminal over.
    pub fn open() -> Self {
        let stdout = io::stdout();
        let painted = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        let mut stdout = stdout.lock();
        // A terminal that is gone is told by the first frame.
        let _ = stdout.write_all(BEGIN.as_bytes());
        let _ = stdout.flush();
        Self {
            painted,
            last: Vec::new(),
        }
    }

    /// Shows these lines, as far as there is room.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let size = terminal_size::terminal_size();
        let (columns, rows) = size.map_or((80, 24), |(width, height)| {
            (usize::from(width.0), usize::from(height.0))
        });
        self.last = lines.iter().map(|line| self.text(line)).collect();
        let visible: Vec<String> = fit(lines, columns, rows)
            .iter()
            .map(|line| self.text(line))
            .collect();
        let mut stdout = io::stdout().lock();
        stdout.write_all(frame(&visible).as_bytes())?;
        stdout.flush()
    }

    fn text(&self, line: &Line) -> String {
        if self.painted {
            line.painted()
        } else {
            line.plain()
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = io::stdout().lock();
        // Nobody is left to tell when the terminal is gone.
        let _ = stdout.write_all(END.as_bytes());
        for line in &self.last {
            let _ = writeln!(stdout, "{line}");
        }
        let _ = stdout.flush();
    }
}

/// What fits on the screen, with a word about what does not.
fn fit(lines: &[Line], columns: usize, rows: usize) -> Vec<Line> {
    let mut fitting: Vec<Line> = lines.iter().map(|line| line.cut(columns)).collect();
    if fitting.len() > rows {
        let hidden = fitting.len() + 1 - rows;
        fitting.truncate(rows.saturating_sub(1));
        fitting.push(Line::new(Tone::Faint, format!("… {hidden} more lines")).cut(columns));
    }
    fitting
}

/// One frame: every line overwrites what stood there, and clears the rest.
fn frame(lines: &[String]) -> String {
    let body: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
    format!("\x1b[?2026h\x1b[H{}\x1b[J\x1b[?2026l", body.join("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_never_clears_the_screen_before_it_is_drawn() {
        assert_eq!(
            frame(&["one".to_owned(), "two".to_owned()]),
            "\x1b[?2026h\x1b[Hone\x1b[K\r\ntwo\x1b[K\x1b[J\x1b[?2026l"
        );
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let lines: Vec<Line> = (1..=5)
            .map(|number| Line::from(format!("line {number}")))
            .collect();
        let shown: Vec<String> = fit(&lines, 8, 3).iter().map(Line::plain).collect();
        assert_eq!(shown, ["line 1", "line 2", "… 3 mor…"]);
        assert_eq!(fit(&lines, 80, 5).len(), 5);
    }
}
