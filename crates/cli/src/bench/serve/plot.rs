//! A run as a picture: what ended when, and how times are distributed.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::tally::{Latencies, Tally};
use super::timeline::Slot;
use crate::error::CliError;

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 840);
/// Points of a distribution's curve.
const POINTS: u32 = 400;

/// Writes an SVG file with two charts: requests per second over time, and times by percentile.
///
/// # Errors
/// The file can't be written.
pub(crate) fn write(path: &Path, title: &str, tally: &Tally) -> Result<(), CliError> {
    draw(path, title, tally)
        .map_err(|error| CliError::new(format!("cannot write {}: {error}", path.display())))
}

fn draw(path: &Path, title: &str, tally: &Tally) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(title, ("sans-serif", 18))?;
    let (upper, lower) = root.split_vertically(SIZE.1 / 2);
    draw_timeline(&upper, tally)?;
    draw_distributions(&lower, tally)?;
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// One of the counts of an interval.
type Count = fn(&Slot) -> u64;

fn draw_timeline(area: &Area<'_>, tally: &Tally) -> Result<(), Box<dyn Error>> {
    let width = tally.timeline.width_seconds() as f64;
    let slots = tally.timeline.slots();
    let per_second = |count: u64| count as f64 / width;
    let highest = slots.iter().map(|slot| per_second(slot.complete.max(slot.refused).max(slot.failed)));
    let highest = highest.fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("what ended, per second", ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..slots.len().max(1) as f64 * width, 0.0..highest * 1.05)?;
    chart.configure_mesh().x_desc("seconds").y_desc("requests per second").draw()?;
    let series: [(&str, RGBColor, Count); 4] = [
        ("complete", BLUE, |slot| slot.complete),
        ("good", GREEN, |slot| slot.good),
        ("refused", MAGENTA, |slot| slot.refused),
        ("failed", RED, |slot| slot.failed),
    ];
    for (name, colour, count) in series {
        let points =
            slots.iter().enumerate().map(|(i, slot)| ((i as f64 + 0.5) * width, per_second(count(slot))));
        chart
            .draw_series(LineSeries::new(points, colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    Ok(())
}

fn draw_distributions(area: &Area<'_>, tally: &Tally) -> Result<(), Box<dyn Error>> {
    let series: [(&str, RGBColor, &Latencies); 4] = [
        ("time to first token", BLUE, &tally.first),
        ("inter-token latency", GREEN, &tally.gaps),
        ("time per output token", MAGENTA, &tally.per_token),
        ("end to end", RED, &tally.whole),
    ];
    let shown: Vec<_> = series.into_iter().filter(|(_, _, times)| times.len() > 0).collect();
    let lowest = shown.iter().map(|(_, _, times)| times.quantile_ms(0.0)).fold(1.0, f64::min).max(1e-3);
    let highest = shown.iter().map(|(_, _, times)| times.max_ms()).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("times by percentile", ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..100.0, (lowest..highest * 1.2).log_scale())?;
    chart.configure_mesh().x_desc("percentile").y_desc("milliseconds").draw()?;
    for (name, colour, times) in shown {
        let points = (0..=POINTS).map(|i| {
            let share = f64::from(i) / f64::from(POINTS);
            (share * 100.0, times.quantile_ms(share))
        });
        chart
            .draw_series(LineSeries::new(points, colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    let position = SeriesLabelPosition::UpperLeft;
    chart.configure_series_labels().position(position).border_style(BLACK).background_style(WHITE).draw()?;
    Ok(())
}
