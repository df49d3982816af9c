//! Plots as SVG inside the page. Colours are keys that the style sheet turns into those of the theme: the page has no
//! inline style, and light and dark share one picture. Beside each plot the page has the same numbers as text.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::metrics::{BOUNDS_MS, Figures};

const SIZE: (u32, u32) = (640, 200);
/// Axes and text.
const INK: RGBColor = RGBColor(1, 1, 1);
/// What was measured.
const DATA: RGBColor = RGBColor(2, 2, 2);
/// The mean.
const MEAN: RGBColor = RGBColor(3, 3, 3);
/// The line that must not be crossed.
const LIMIT: RGBColor = RGBColor(4, 4, 4);
const FONT: (&str, i32) = ("sans-serif", 13);

type Failure = Box<dyn std::error::Error>;

/// One action's drift: its place in the session and the score, 0 to 1.
pub(crate) type Drift = (u64, f64);

/// Drift over a session, with its exponential moving average as the session keeps it. `None` for fewer than two.
pub(crate) fn drift(points: &[Drift]) -> Option<String> {
    if points.len() < 2 {
        return None;
    }
    svg(|area| {
        let (first, last) = (points.first().map_or(0, |p| p.0), points.last().map_or(1, |p| p.0));
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(44)
            .build_cartesian_2d(first as f64..(last.max(first + 1)) as f64, 0.0..1.0_f64)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(INK.mix(0.0))
            .bold_line_style(INK.mix(0.15))
            .axis_style(INK.mix(0.4))
            .label_style(FONT.into_font().color(&INK))
            .x_desc("receipt in the session")
            .y_desc("drift")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.1}"))
            .y_labels(6)
            .draw()?;
        let places = points.iter().map(|(at, score)| (*at as f64, *score));
        chart.draw_series(LineSeries::new(places.clone(), DATA.stroke_width(2)))?;
        chart.draw_series(places.map(|place| Circle::new(place, 3, DATA.filled())))?;
        chart.draw_series(LineSeries::new(smoothed(points), MEAN.stroke_width(2)))?;
        Ok(())
    })
}

/// The moving average with the share that a session gives to the newest score by default.
fn smoothed(points: &[Drift]) -> Vec<(f64, f64)> {
    const NEWEST: f64 = 0.3;
    let mut mean = points.first().map_or(0.0, |(_, score)| *score);
    points
        .iter()
        .map(|(at, score)| {
            mean += NEWEST * (score - mean);
            (*at as f64, mean)
        })
        .collect()
}

/// How long answers took, in the histogram's own buckets, against the time that the vendor leaves us. `None` before the
/// first answer.
pub(crate) fn latency(figures: &Figures, budget_ms: u64) -> Option<String> {
    let most = figures.buckets.iter().copied().max().filter(|most| *most > 0)?;
    let limit = BOUNDS_MS.iter().position(|bound| budget_ms < *bound).unwrap_or(BOUNDS_MS.len()) as f64;
    svg(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(44)
            .build_cartesian_2d(-0.5..figures.buckets.len() as f64 - 0.5, 0.0..most as f64 * 1.1)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(INK.mix(0.0))
            .bold_line_style(INK.mix(0.15))
            .axis_style(INK.mix(0.4))
            .label_style(FONT.into_font().color(&INK))
            .x_desc("answered in less than; the line is the time allowed")
            .y_desc("answers")
            .x_labels(figures.buckets.len() + 1)
            .x_label_formatter(&|x| bucket(*x))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .y_labels(5)
            .draw()?;
        let bars = figures.buckets.iter().enumerate().map(|(at, count)| {
            Rectangle::new([(at as f64 - 0.4, 0.0), (at as f64 + 0.4, *count as f64)], DATA.filled())
        });
        chart.draw_series(bars)?;
        let line = [(limit, 0.0), (limit, most as f64 * 1.1)];
        chart.draw_series([PathElement::new(line, LIMIT.stroke_width(3))])?;
        Ok(())
    })
}

/// A bucket's bound as a label.
fn bucket(x: f64) -> String {
    // Labels stand at whole numbers, from 0 to the number of buckets.
    match BOUNDS_MS.get(x as usize) {
        Some(ms) if *ms < 1_000 => format!("{ms} ms"),
        Some(ms) => format!("{} s", *ms as f64 / 1_000.0),
        None => "more".to_owned(),
    }
}

/// Draws; a plot that cannot be drawn is left out, since the numbers stand beside it.
fn svg(draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Failure>) -> Option<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&area).and_then(|()| Ok(area.present()?)).ok()?;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_hold_no_inline_style_and_nothing_from_elsewhere() {
        let figures = Figures { buckets: vec![3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], ..Figures::default() };
        for plot in [drift(&[(0, 0.1), (3, 0.9)]).unwrap(), latency(&figures, 700).unwrap()] {
            assert!(!plot.contains("style=") && !plot.contains("href") && !plot.contains("<script"));
            assert!(plot.contains("#020202"), "the style sheet's key for data");
        }
    }

    #[test]
    fn there_is_no_plot_of_nothing() {
        assert!(drift(&[(0, 0.1)]).is_none());
        assert!(latency(&Figures { buckets: vec![0; 13], ..Figures::default() }, 700).is_none());
    }
}
