//! Several results side by side: one Markdown table per job, medians, ratios to Redis.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

use crate::cli;
use crate::report::{Better, Measure, Report, number};

/// Systems of this name are what others are compared with.
const BASELINE: &str = "redis";

/// Prints the tables.
pub(crate) fn run(options: &cli::Summary) -> anyhow::Result<()> {
    let reports = read(&options.files)?;
    print!("{}", tables(&reports));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&reports)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    anyhow::ensure!(
        reports.iter().all(|report| report.equal),
        "some servers were not equal"
    );
    Ok(())
}

/// A file holds one result or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    One(Report),
    Many(Vec<Report>),
}

/// Reads results; the runs of one job and system are put together.
pub(crate) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Report>> {
    let mut reports: Vec<Report> = Vec::new();
    for path in files {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let file = serde_json::from_str(&text).with_context(|| format!("{name} is no result"))?;
        let found = match file {
            File::One(report) => vec![report],
            File::Many(reports) => reports,
        };
        for report in found {
            let is_same = |known: &&mut Report| {
                known.job == report.job
                    && known.system == report.system
                    && known.settings == report.settings
            };
            match reports.iter_mut().find(is_same) {
                Some(known) => known.merge(report),
                None => reports.push(report),
            }
        }
    }
    Ok(reports)
}

fn tables(reports: &[Report]) -> String {
    let mut jobs: Vec<&str> = Vec::new();
    for report in reports {
        if !jobs.contains(&&*report.job) {
            jobs.push(&report.job);
        }
    }
    let mut out = String::new();
    for job in jobs {
        let systems: Vec<_> = reports.iter().filter(|report| report.job == job).collect();
        table(&mut out, job, &systems);
    }
    out
}

fn table(out: &mut String, job: &str, systems: &[&Report]) {
    let runs = systems
        .iter()
        .flat_map(|it| &it.measures)
        .map(|it| it.values.len())
        .max();
    let write = |out: &mut String, line: String| writeln!(out, "{line}").expect("a text grows");
    write(out, format!("### {job}\n"));
    write(
        out,
        format!(
            "Median of {} run(s); in parentheses relative to the better Redis.\n",
            runs.unwrap_or(0)
        ),
    );
    let names: Vec<_> = systems.iter().map(|system| system.full_name()).collect();
    write(out, format!("| | {} |", names.join(" | ")));
    write(out, format!("|---|{}", "---:|".repeat(systems.len())));
    let mut done: Vec<&str> = Vec::new();
    for measure in systems.iter().flat_map(|system| &system.measures) {
        if done.contains(&&*measure.name) {
            continue;
        }
        done.push(&measure.name);
        let baseline = baseline(systems, measure);
        let cells: Vec<_> = systems
            .iter()
            .map(|system| cell(system, measure, baseline))
            .collect();
        write(
            out,
            format!("| {} | {} |", measure.label(), cells.join(" | ")),
        );
    }
    out.push('\n');
}

fn find<'a>(system: &'a Report, measure: &Measure) -> Option<&'a Measure> {
    system
        .measures
        .iter()
        .find(|known| known.name == measure.name)
}

/// The best value among the Redis systems.
fn baseline(systems: &[&Report], measure: &Measure) -> Option<f64> {
    let redis = systems
        .iter()
        .filter(|system| system.system.starts_with(BASELINE));
    let medians = redis.filter_map(|system| Some(find(system, measure)?.median));
    match measure.better {
        Better::Less => medians.reduce(f64::min),
        Better::More => medians.reduce(f64::max),
    }
}

fn cell(system: &Report, measure: &Measure, baseline: Option<f64>) -> String {
    let Some(found) = find(system, measure) else {
        return "–".to_owned();
    };
    let value = number(found.median);
    match baseline {
        Some(baseline) if baseline > 0.0 && !system.system.starts_with(BASELINE) => {
            format!("{value} ({}×)", ratio(found.median / baseline))
        }
        _ => value,
    }
}

fn ratio(ratio: f64) -> String {
    let decimals = if ratio < 10.0 { 2 } else { 0 };
    format!("{ratio:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(system: &str, time: f64, rate: Option<f64>) -> Report {
        let mut report = Report::new("align".to_owned(), system.to_owned());
        report.add("time", "s", Better::Less, time);
        if let Some(rate) = rate {
            report.add("rate", "1/s", Better::More, rate);
        }
        report
    }

    /// Goal: ratios refer to the better of two baselines, by measure; what was not measured is a dash.
    #[test]
    fn table_with_ratios() {
        let reports = [
            report("scspd", 2.0, Some(300.0)),
            report("redis default", 5.0, Some(100.0)),
            report("redis diskless", 1.0, None),
        ];
        let expected = "### align\n\n\
            Median of 1 run(s); in parentheses relative to the better Redis.\n\n\
            | | scspd | redis default | redis diskless |\n\
            |---|---:|---:|---:|\n\
            | time, s | 2.00 (2.00×) | 5.00 | 1.00 |\n\
            | rate, 1/s | 300 (3.00×) | 100 | – |\n\n";
        assert_eq!(tables(&reports), expected);
    }
}
