//! The charts of the report, as SVG.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::args::Build;
use crate::conductor::Outcome;

const SIZE: (u32, u32) = (860, 320);
const GRID: RGBColor = RGBColor(226, 228, 233);
const TEXT: RGBColor = RGBColor(75, 82, 99);

/// A chart with its words.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) caption: &'static str,
    pub(crate) svg: String,
}

/// A line of a chart.
struct Line {
    build: Build,
    points: Vec<(f64, f64)>,
}

/// All charts of these rushes.
pub(crate) fn all(outcomes: &[Outcome]) -> Result<Vec<Chart>> {
    let lines = |points: fn(&Outcome) -> Vec<(f64, f64)>| -> Vec<Line> {
        outcomes
            .iter()
            .map(|o| Line {
                build: o.build,
                points: points(o),
            })
            .collect()
    };
    Ok(vec![
        Chart {
            title: "Users done over time",
            caption: "Users whose last message has arrived.",
            svg: draw(&lines(users_done), "users", SeriesLabelPosition::LowerRight)?,
        },
        Chart {
            title: "Messages delivered over time",
            caption: "Messages that the messenger has accepted; its limit is 200 in any second.",
            svg: draw(
                &lines(messages),
                "messages",
                SeriesLabelPosition::LowerRight,
            )?,
        },
        Chart {
            title: "Time of a leaderboard request",
            caption: "The slowest request begun in each second of the rush, in milliseconds.",
            svg: draw(&lines(leaderboards), "ms", SeriesLabelPosition::UpperRight)?,
        },
    ])
}

fn users_done(outcome: &Outcome) -> Vec<(f64, f64)> {
    let mut times: Vec<f64> = outcome
        .crowd
        .users
        .iter()
        .filter_map(|u| u.last_message)
        .collect();
    times.sort_by(f64::total_cmp);
    counted(times)
}

fn messages(outcome: &Outcome) -> Vec<(f64, f64)> {
    counted(outcome.arrivals.iter().map(|a| a.at).collect())
}

/// The steps of a count that grows by one at each of these times.
fn counted(times: Vec<f64>) -> Vec<(f64, f64)> {
    let steps = times
        .into_iter()
        .zip(0_u32..)
        .flat_map(|(at, n)| [(at, f64::from(n)), (at, f64::from(n + 1))]);
    std::iter::once((0.0, 0.0)).chain(steps).collect()
}

fn leaderboards(outcome: &Outcome) -> Vec<(f64, f64)> {
    let mut slowest: Vec<f64> = Vec::new();
    for request in &outcome.crowd.leaderboards {
        let second = request.at as usize;
        if slowest.len() <= second {
            slowest.resize(second + 1, 0.0);
        }
        slowest[second] = slowest[second].max(1e3 * request.seconds);
    }
    slowest
        .into_iter()
        .zip(0_u32..)
        .map(|(ms, second)| (f64::from(second) + 0.5, ms))
        .collect()
}

fn color(build: Build) -> RGBColor {
    match build {
        Build::Before => RGBColor(196, 78, 60),
        Build::After => RGBColor(28, 122, 92),
    }
}

fn draw(lines: &[Line], unit: &str, legend: SeriesLabelPosition) -> Result<String> {
    let mut svg = String::new();
    paint(&mut svg, lines, unit, legend).map_err(|error| anyhow!("draw a chart: {error}"))?;
    Ok(svg)
}

fn paint(
    svg: &mut String,
    lines: &[Line],
    unit: &str,
    legend: SeriesLabelPosition,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|l| &l.points);
    let right = points().map(|p| p.0).fold(1.0, f64::max);
    let top = points().map(|p| p.1).fold(1.0, f64::max) * 1.05;
    let font = ("sans-serif", 13).into_font().color(&TEXT);
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(font.clone())
        .x_desc("seconds since the rush began")
        .y_desc(unit)
        .axis_desc_style(font.clone())
        .x_label_formatter(&|x| label(*x))
        .y_label_formatter(&|y| label(*y))
        .draw()?;
    for line in lines {
        let color = color(line.build);
        if let [point] = line.points[..] {
            // A line through one point is not seen.
            chart.draw_series([Circle::new(point, 3, color.filled())])?;
        }
        chart
            .draw_series(LineSeries::new(
                line.points.iter().copied(),
                color.stroke_width(2),
            ))?
            .label(line.build.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(legend)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font(font)
        .draw()?;
    root.present()?;
    Ok(())
}

/// A number at an axis; whole where it is, so that `0.5` between `0` and `1` is no second `0`.
fn label(value: f64) -> String {
    let tenths = (value * 10.0).round() / 10.0;
    tenths.to_string()
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn labels_of_half_steps_differ() {
        assert_eq!([0.0, 0.5, 1.0, 50.0].map(label), ["0", "0.5", "1", "50"]);
    }
}
