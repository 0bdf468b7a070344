//! The table as a picture: tokens per second over prompt length, context and streams.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::points::Point;
use super::table::{Row, Table};

/// Width and height in pixels.
const SIZE: (u32, u32) = (1200, 420);

/// One of the numbers of a row.
type Speed = fn(&Row) -> Option<f64>;

const SERIES: [(&str, RGBColor, Speed); 3] =
    [("limit", RED, |row| row.limit), ("Sostenuto", BLUE, |row| row.ours), ("peer", GREEN, |row| row.peer)];

/// A chart: its caption, and the size of a point that belongs to it.
type Chart = (&'static str, fn(Point) -> Option<usize>);

const CHARTS: [Chart; 3] = [
    ("prefill, by tokens of the prompt", |point| match point {
        Point::Prefill(tokens) => Some(tokens),
        _ => None,
    }),
    ("decode, by tokens of context", |point| match point {
        Point::Decode(context) => Some(context),
        _ => None,
    }),
    ("decode, by streams", |point| match point {
        Point::Decode(0) => Some(1),
        Point::Batch(streams) => Some(streams),
        _ => None,
    }),
];

/// Writes an SVG file.
///
/// # Errors
/// The file can't be written.
pub(super) fn write(table: &Table, path: &Path) -> Result<(), String> {
    draw(&table.rows(), path).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn draw(rows: &[Row], path: &Path) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, chart) in root.split_evenly((1, CHARTS.len())).iter().zip(CHARTS) {
        draw_chart(area, rows, chart)?;
    }
    root.present()?;
    Ok(())
}

/// Points stand at equal distances, as their sizes grow by factors; so do speeds.
fn draw_chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    rows: &[Row],
    (caption, size): Chart,
) -> Result<(), Box<dyn Error>> {
    let mut shown: Vec<(usize, &Row)> = rows.iter().filter_map(|row| Some((size(row.point)?, row))).collect();
    shown.sort_by_key(|(size, _)| *size);
    let speeds = || shown.iter().flat_map(|(_, row)| [row.limit, row.ours, row.peer]).flatten();
    let (lowest, highest) = (speeds().fold(f64::INFINITY, f64::min), speeds().fold(0.0, f64::max));
    if highest == 0.0 {
        return Ok(());
    }
    let last = shown.len().saturating_sub(1).max(1);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(50)
        .build_cartesian_2d(-0.2..last as f64 + 0.2, (lowest / 2.0..highest * 1.3).log_scale())?;
    let label = |x: &f64| match shown.get(x.round() as usize) {
        Some((size, _)) if (x - x.round()).abs() < 0.01 && *x > -0.1 => size.to_string(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(last + 1)
        .x_label_formatter(&label)
        .y_desc("tokens per second")
        .draw()?;
    for (name, colour, speed) in SERIES {
        let points: Vec<(f64, f64)> = shown
            .iter()
            .enumerate()
            .filter_map(|(place, (_, row))| Some((place as f64, speed(row)?)))
            .collect();
        if points.is_empty() {
            continue;
        }
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        chart
            .draw_series(LineSeries::new(points, colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    let position = SeriesLabelPosition::LowerLeft;
    chart
        .configure_series_labels()
        .position(position)
        .border_style(BLACK)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}
