//! Envoy's statistics in Prometheus' text format, read line by line: only the
//! few families that say how a cluster's requests fare
//! (<https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats>).

use std::collections::BTreeMap;

/// Requests at one Envoy cluster, since Envoy started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests under way (`upstream_rq_active`).
    pub open: u64,
    /// Requests answered, by the cluster or on its behalf
    /// (`upstream_rq_completed`).
    pub answered: u64,
    /// Those of them that were answered with 5xx: by the cluster, or by Envoy
    /// because the connection failed, was reset or there was no endpoint
    /// (`upstream_rq_5xx`).
    pub failed: u64,
    /// Endpoints that get requests (`membership_healthy`).
    pub healthy: u64,
    /// Requests sent, answered or not (`upstream_rq_total`).
    pub begun: u64,
    /// Bytes that came from the cluster (`upstream_cx_rx_bytes_total`):
    /// whatever they say, something there speaks.
    pub received: u64,
}

/// Names within Envoy, before the translation for Prometheus, of what is
/// read; for the filter of the request.
pub const STATISTICS: &str = "upstream_rq_active|upstream_rq_completed|upstream_rq_5xx|\
    membership_healthy|upstream_rq_total|upstream_cx_rx_bytes_total";

/// No line of interest is longer.
const LONGEST_LINE: usize = 64 * 1024;

/// Takes the text in pieces of any size.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    totals: BTreeMap<String, Totals>,
}

impl Parser {
    /// Takes the next piece.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = piece.split_at(end);
            if self.line.is_empty() {
                self.take(head);
            } else {
                self.line.extend_from_slice(head);
                let line = std::mem::take(&mut self.line);
                self.take(&line);
            }
            piece = &tail[1..];
        }
        if self.line.len() + piece.len() <= LONGEST_LINE {
            self.line.extend_from_slice(piece);
        }
    }

    /// Everything that was read, by name of the Envoy cluster. Clusters that
    /// Envoy does not know have no entry.
    pub fn finish(mut self) -> BTreeMap<String, Totals> {
        let line = std::mem::take(&mut self.line);
        self.take(&line);
        self.totals
    }

    fn take(&mut self, line: &[u8]) {
        if let Some((cluster, apply)) = std::str::from_utf8(line).ok().and_then(sample) {
            let totals = self.totals.entry(cluster).or_default();
            apply(totals);
        }
    }
}

/// One line that matters: whose it is, and what it says.
fn sample(line: &str) -> Option<(String, impl Fn(&mut Totals))> {
    let (family, rest) = line.strip_prefix("envoy_cluster_")?.split_once('{')?;
    let (labels, rest) = labels(rest)?;
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    if !value.is_finite() || value < 0.0 {
        return None;
    }
    let field: fn(&mut Totals) -> &mut u64 = match family {
        "upstream_rq_active" => |totals| &mut totals.open,
        "upstream_rq_completed" => |totals| &mut totals.answered,
        "membership_healthy" => |totals| &mut totals.healthy,
        "upstream_rq_total" => |totals| &mut totals.begun,
        "upstream_cx_rx_bytes_total" => |totals| &mut totals.received,
        "upstream_rq_xx" if get(&labels, "envoy_response_code_class")? == "5" => {
            |totals| &mut totals.failed
        }
        _ => return None,
    };
    let cluster = get(&labels, "envoy_cluster_name")?.to_owned();
    // Counters fit: Envoy keeps them as 64-bit integers.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let value = value as u64;
    Some((cluster, move |totals: &mut Totals| *field(totals) += value))
}

fn get<'a>(labels: &'a [(&str, String)], name: &str) -> Option<&'a str> {
    let found = labels.iter().find(|(label, _)| *label == name);
    found.map(|(_, value)| value.as_str())
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        labels.push((name, value));
        text = rest;
    }
}

/// A value up to its closing quote, with `\\`, `\"` and `\n` resolved, and
/// what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[position + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Envoy 1.40 writes it.
    const TEXT: &str = r#"# TYPE envoy_cluster_upstream_rq_completed counter
envoy_cluster_upstream_rq_completed{envoy_cluster_name="games_shop--ovh_80"} 120

# TYPE envoy_cluster_upstream_rq_total counter
envoy_cluster_upstream_rq_total{envoy_cluster_name="games_shop--ovh_80"} 127
# TYPE envoy_cluster_upstream_cx_rx_bytes_total counter
envoy_cluster_upstream_cx_rx_bytes_total{envoy_cluster_name="games_shop--ovh_80"} 23000
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="games_shop--ovh_80"} 117
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="games_shop--ovh_80"} 3
# TYPE envoy_cluster_membership_healthy gauge
envoy_cluster_membership_healthy{envoy_cluster_name="games_shop--atos_80"} 2
envoy_cluster_membership_healthy{envoy_cluster_name="games_shop--ovh_80"} 1
# TYPE envoy_cluster_upstream_rq_active gauge
envoy_cluster_upstream_rq_active{envoy_cluster_name="games_shop--ovh_80"} 7
envoy_cluster_upstream_rq_active{envoy_cluster_name="x-ds \"contour\""} 2
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="games_shop--ovh_80",le="0.5"} 9
envoy_server_uptime{} 5
envoy_cluster_upstream_rq_active{envoy_cluster_name="torn
envoy_cluster_upstream_rq_active{envoy_cluster_name="games_shop--ovh_80"} NaN
"#;

    #[test]
    fn reads_the_same_from_pieces_of_any_size() {
        let shop = Totals {
            open: 7,
            answered: 120,
            failed: 3,
            healthy: 1,
            begun: 127,
            received: 23_000,
        };
        for size in [1, 7, 64, TEXT.len()] {
            let mut parser = Parser::default();
            for piece in TEXT.as_bytes().chunks(size) {
                parser.feed(piece);
            }
            let totals = parser.finish();
            assert_eq!(totals["games_shop--ovh_80"], shop, "pieces of {size}");
            assert_eq!(totals["games_shop--atos_80"].healthy, 2);
            assert_eq!(totals["x-ds \"contour\""].open, 2);
            assert_eq!(totals.len(), 3, "a cluster that is not named is not known");
        }
    }

    #[test]
    fn a_last_line_without_an_end_counts() {
        let mut parser = Parser::default();
        parser.feed(br#"envoy_cluster_upstream_rq_active{envoy_cluster_name="one"} 4"#);
        assert_eq!(parser.finish()["one"].open, 4);
    }
}
