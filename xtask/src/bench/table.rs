//! Medians over rounds, ratios, and how they are shown.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::machine::Machine;
use super::ours::Report;
use super::points::Point;

/// Everything that was measured.
pub(super) struct Table {
    machine: Machine,
    peer: Option<String>,
    modes: Vec<Report>,
    bandwidths: Vec<f64>,
    int8_peaks: Vec<f64>,
    f32_peaks: Vec<f64>,
    samples: BTreeMap<Point, Samples>,
}

/// Tokens per second of every round.
#[derive(Debug, Default)]
struct Samples {
    limit: Vec<f64>,
    ours: Vec<f64>,
    peer: Vec<f64>,
}

/// Medians at a point, in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    /// Which.
    pub(super) point: Point,
    /// What the machine allows.
    pub(super) limit: Option<f64>,
    /// This program.
    pub(super) ours: Option<f64>,
    /// The other one.
    pub(super) peer: Option<f64>,
    /// Lowest and highest of this program over the rounds.
    pub(super) ours_range: Option<(f64, f64)>,
    /// The same of the other one.
    pub(super) peer_range: Option<(f64, f64)>,
}

impl Row {
    fn of(point: Point, samples: &Samples) -> Row {
        Row {
            point,
            limit: median(&samples.limit),
            ours: median(&samples.ours),
            peer: median(&samples.peer),
            ours_range: range(&samples.ours),
            peer_range: range(&samples.peer),
        }
    }

    /// This program by the limit.
    pub(super) fn of_limit(&self) -> Option<f64> {
        ratio(self.ours, self.limit)
    }

    /// The other one by the limit.
    pub(super) fn peer_of_limit(&self) -> Option<f64> {
        ratio(self.peer, self.limit)
    }

    /// This program by the other one.
    pub(super) fn of_peer(&self) -> Option<f64> {
        ratio(self.ours, self.peer)
    }
}

impl Table {
    /// Nothing is measured yet.
    pub(super) fn new(machine: Machine, peer: Option<String>) -> Table {
        Table {
            machine,
            peer,
            modes: Vec::new(),
            bandwidths: Vec::new(),
            int8_peaks: Vec::new(),
            f32_peaks: Vec::new(),
            samples: BTreeMap::new(),
        }
    }

    /// A short run that shows a mode.
    pub(super) fn add_mode(&mut self, report: Report) {
        self.modes.push(report);
    }

    /// What this program measured in a round.
    pub(super) fn add_ours(&mut self, reports: Vec<Report>) {
        for report in reports {
            self.bandwidths.push(report.memory_gigabytes_per_second);
            self.int8_peaks.extend(report.int8_operations_per_second);
            self.f32_peaks.extend(report.f32_operations_per_second);
            for measured in report.measured() {
                let samples = self.samples.entry(measured.point).or_default();
                samples.ours.push(measured.speed);
                samples.limit.push(measured.limit);
            }
        }
    }

    /// What the other program measured in a round.
    pub(super) fn add_peer(&mut self, measured: Vec<(Point, f64)>) {
        for (point, speed) in measured {
            self.samples.entry(point).or_default().peer.push(speed);
        }
    }

    /// Medians, by kind and size.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.samples.iter().map(|(point, samples)| Row::of(*point, samples)).collect()
    }

    /// The text that is printed and recorded.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        let peak =
            |peaks: &[f64]| median(peaks).map_or("none".to_owned(), |peak| format!("{:.0}", peak / 1e9));
        let bandwidth = median(&self.bandwidths).unwrap_or(0.0);
        let (int8, f32) = (peak(&self.int8_peaks), peak(&self.f32_peaks));
        writeln!(text, "limits: {bandwidth:.1} GB/s read, {int8} GOP/s int8 (VNNI), {f32} GOP/s f32")
            .unwrap();
        if let Some(peer) = &self.peer {
            writeln!(text, "peer: {peer}").unwrap();
        }
        for report in &self.modes {
            let Report { mode, device, logits_hash, .. } = report;
            let speeds = report.measured();
            let speeds: Vec<_> = speeds.iter().map(|m| format!("{} {:.2} tok/s", m.point, m.speed)).collect();
            writeln!(text, "mode {mode} ({device}): logits {logits_hash}, {}", speeds.join(", ")).unwrap();
        }
        text += "\n| tokens/s | limit | ours | range | of limit | peer | range | of limit | ours / peer |\n";
        text += "|---|---|---|---|---|---|---|---|---|\n";
        for row in self.rows() {
            let cells = [
                number(row.limit),
                number(row.ours),
                range_text(row.ours_range),
                percent(row.of_limit()),
                number(row.peer),
                range_text(row.peer_range),
                percent(row.peer_of_limit()),
                number(row.of_peer()),
            ];
            writeln!(text, "| {} | {} |", row.point, cells.join(" | ")).unwrap();
        }
        text
    }

    /// One line a point, empty where nothing was measured.
    pub(super) fn csv(&self) -> String {
        let mut text = "point,limit_tokens_per_second,ours_tokens_per_second,ours_min,ours_max,\
                        peer_tokens_per_second,peer_min,peer_max,ours_of_limit,peer_of_limit,ours_of_peer\n"
            .to_owned();
        for row in self.rows() {
            let name = row.point.to_string().replace(',', "");
            let cells = [
                row.limit,
                row.ours,
                row.ours_range.map(|range| range.0),
                row.ours_range.map(|range| range.1),
                row.peer,
                row.peer_range.map(|range| range.0),
                row.peer_range.map(|range| range.1),
                row.of_limit(),
                row.peer_of_limit(),
                row.of_peer(),
            ];
            let cells = cells.map(|value| value.map_or(String::new(), |value| format!("{value:.4}")));
            writeln!(text, "{name},{}", cells.join(",")).unwrap();
        }
        text
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.2}"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{:.0} %", 100.0 * value))
}

fn range_text(range: Option<(f64, f64)>) -> String {
    range.map_or("–".to_owned(), |(low, high)| format!("{low:.2}–{high:.2}"))
}

fn ratio(value: Option<f64>, by: Option<f64>) -> Option<f64> {
    value.zip(by).map(|(value, by)| value / by)
}

fn range(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().reduce(f64::min)?;
    Some((low, values.iter().copied().fold(low, f64::max)))
}

/// The middle value, or the mean of the middle two; nothing of nothing.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some((sorted[(sorted.len() - 1) / 2] + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(Machine::describe(2), Some("a peer".to_owned()));
        let samples = Samples { limit: vec![10.0], ours: vec![8.0, 9.0, 4.0], peer: vec![5.0, 3.0] };
        table.samples.insert(Point::Decode(0), samples);
        table.add_peer(vec![(Point::Prefill(8192), 7.0)]);
        table
    }

    #[test]
    fn rows_hold_medians_and_ratios() {
        let rows = table().rows();
        assert_eq!(rows[0].point, Point::Prefill(8192));
        assert_eq!((rows[0].ours, rows[0].peer, rows[0].of_peer()), (None, Some(7.0), None));
        let decode = rows[1];
        assert_eq!((decode.ours, decode.peer), (Some(8.0), Some(4.0)));
        assert_eq!((decode.of_limit(), decode.peer_of_limit()), (Some(0.8), Some(0.4)));
        assert_eq!((decode.of_peer(), decode.ours_range), (Some(2.0), Some((4.0, 9.0))));
    }

    #[test]
    fn what_was_not_measured_is_a_dash_in_the_table_and_empty_in_the_file() {
        let table = table();
        let text = table.markdown();
        assert!(text.contains("| prefill 8192 | – | – | – | – | 7.00 | 7.00–7.00 | – | – |"), "{text}");
        assert!(text.contains("| decode after 0 | 10.00 | 8.00 | 4.00–9.00 | 80 % | 4.00 |"), "{text}");
        let csv = table.csv();
        let columns = |line: &str| line.split(',').count();
        assert!(csv.lines().all(|line| columns(line) == 11), "{csv}");
        assert!(csv.contains("\nprefill 8192,,,,,7.0000,7.0000,7.0000,,,\n"), "{csv}");
    }

    #[test]
    fn median_of_nothing_is_nothing() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
