//! What happened, for people.

/// Lines of a run; nothing is kept of a quiet one.
#[derive(Debug, Default)]
pub struct Story(Option<Vec<String>>);

impl Story {
    /// Keeps nothing: a run that only counts.
    pub fn quiet() -> Self {
        Self(None)
    }

    /// Keeps every line.
    pub fn told() -> Self {
        Self(Some(Vec::new()))
    }

    /// Adds a line, made only when somebody listens.
    pub fn tell(&mut self, second: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.0 {
            lines.push(format!("{:>3}:{:02}  {}", second / 60, second % 60, line()));
        }
    }

    /// All lines.
    pub fn text(&self) -> String {
        let mut text = self.0.clone().unwrap_or_default().join("\n");
        text.push('\n');
        text
    }
}
