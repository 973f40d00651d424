//! Times and durations for people.

use jiff::{SignedDuration, Timestamp};

/// A duration in the two units that matter.
pub fn human(duration: SignedDuration) -> String {
    let milliseconds = duration.as_millis().max(0);
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if milliseconds < 1000 => format!("{milliseconds} ms"),
        () if seconds < 10 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        () if seconds < 60 => format!("{seconds} s"),
        () if minutes < 60 => format!("{minutes} min {} s", seconds % 60),
        () if hours < 24 => format!("{hours} h {} min", minutes % 60),
        () => format!("{days} d {} h", hours % 24),
    }
}

/// How long ago a moment was; nothing at all for one that is still to come,
/// when clocks differ.
pub fn since(moment: Timestamp, now: Timestamp) -> String {
    human(now.duration_since(moment))
}

/// The time of day, in UTC as everywhere in Kubernetes.
pub fn clock(moment: Timestamp) -> String {
    let text = format!("{moment:.0}");
    text.split_once('T')
        .map_or(text.clone(), |(_, time)| time.to_owned())
}

/// Date and time of day, in UTC.
pub fn date(moment: Timestamp) -> String {
    format!("{moment:.0}").replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_what_matters() {
        let shown = |milliseconds| human(SignedDuration::from_millis(milliseconds));
        assert_eq!(shown(-5), "0 ms");
        assert_eq!(shown(850), "850 ms");
        assert_eq!(shown(2_149), "2.1 s");
        assert_eq!(shown(59_999), "59 s");
        assert_eq!(shown(185_000), "3 min 5 s");
        assert_eq!(shown(7_800_000), "2 h 10 min");
        assert_eq!(shown(273_600_000), "3 d 4 h");
    }

    #[test]
    fn moments_are_in_utc() {
        let moment: Timestamp = "2026-11-22T10:02:11.25Z".parse().unwrap();
        assert_eq!(clock(moment), "10:02:11Z");
        assert_eq!(date(moment), "2026-11-22 10:02:11Z");
    }
}
