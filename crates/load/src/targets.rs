//! The project's targets against results: ratios to other programs, or to ourselves, of the same run.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;
use serde::Serialize;

use crate::cli;
use crate::report::{Measure, Report, number};
use crate::summary;

/// A result that a target looks at: the test, what it ran on, and one of its measures. Of several that
/// differ in the number of records, the one with the most.
#[derive(Clone, Copy, Debug)]
struct Pick {
    settings: &'static [(&'static str, &'static str)],
    measure: &'static str,
}

/// What a measure is compared with.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// Nothing: it is the target's number itself.
    Itself,
    /// Another measure; where both come from `align`, of as many records.
    Ratio(Pick),
    /// The same, of the result with the fewest records.
    Smallest,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    const fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn label(self) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {most}"),
            Self::AtLeast(least) => format!("≥ {least}"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Target {
    name: &'static str,
    of: Pick,
    against: Against,
    limit: Limit,
    stretch: Option<Limit>,
}

const fn pick(settings: &'static [(&'static str, &'static str)], measure: &'static str) -> Pick {
    Pick { settings, measure }
}

const ALIGN_LARGE: &[(&str, &str)] = &[("test", "align"), ("mtu", "65535"), ("label", "")];
const ALIGN: &[(&str, &str)] = &[("test", "align"), ("mtu", "1500"), ("label", "")];
const ALIGN_LOCK_STEP: &[(&str, &str)] =
    &[("test", "align"), ("mtu", "1500"), ("label", "lock step")];
const GROWTH: &[(&str, &str)] = &[("test", "align"), ("mtu", "1500"), ("label", "growth")];
const CLIENTS: &[(&str, &str)] = &[("test", "clients"), ("label", "")];
const CLIENTS_BUSY: &[(&str, &str)] = &[("test", "clients"), ("label", "busy poll")];
const FLOOD: &[(&str, &str)] = &[
    ("test", "flood"),
    ("hubs", "2"),
    ("auth", "none"),
    ("strace", "false"),
    ("receiver_workers", "as all"),
    ("label", ""),
];
const FLOOD_LINE: &[(&str, &str)] = &[("test", "flood"), ("hubs", "3"), ("label", "")];
const FLOOD_MD5: &[(&str, &str)] = &[("test", "flood"), ("auth", "hmac-md5-128")];
const FLOOD_SHA: &[(&str, &str)] = &[("test", "flood"), ("auth", "hmac-sha-256-128")];
const FLOOD_BLAKE: &[(&str, &str)] = &[("test", "flood"), ("auth", "blake3-256")];
const FLOOD_ONE: &[(&str, &str)] = &[("test", "flood"), ("receiver_workers", "1")];
const FLOOD_TWO: &[(&str, &str)] = &[("test", "flood"), ("receiver_workers", "2")];
const FLOOD_TRACED: &[(&str, &str)] = &[("test", "flood"), ("strace", "true")];
const REDIS_ALIGN: &[(&str, &str)] =
    &[("test", "align"), ("server", "redis"), ("sync", "diskless")];
const REDIS_CLIENTS: &[(&str, &str)] = &[
    ("test", "clients"),
    ("server", "redis"),
    ("sync", "diskless"),
];
const BIRD_BGP: &[(&str, &str)] = &[("test", "align"), ("server", "bird-bgp")];
const BIRD_OSPF: &[(&str, &str)] = &[("test", "align"), ("server", "bird-ospf")];

const START: &str = "start to aligned";
const NEGOTIATION: &str = "negotiation to aligned";
const ACKNOWLEDGED: &str = "updates acknowledged end to end";
const SET_64: &str = "SET, pipeline 64, replicated";
const SET_1: &str = "SET, pipeline 1, replicated";
const P50: &str = "write to far read p50";
const P99: &str = "write to far read p99";
const USED: &str = "processor time of both";
const CAPACITY: &str = "capacity of the last hub by its busiest worker";

const REDIS_START: Against = Against::Ratio(pick(REDIS_ALIGN, START));
const REDIS_64: Against = Against::Ratio(pick(REDIS_CLIENTS, SET_64));
const REDIS_P50: Against = Against::Ratio(pick(REDIS_CLIENTS, P50));
const REDIS_P99: Against = Against::Ratio(pick(REDIS_CLIENTS, P99));
const FLOODED: Against = Against::Ratio(pick(FLOOD, ACKNOWLEDGED));

const fn most(
    name: &'static str,
    of: Pick,
    against: Against,
    most: f64,
    stretch: Option<f64>,
) -> Target {
    let stretch = match stretch {
        Some(most) => Some(Limit::AtMost(most)),
        None => None,
    };
    Target {
        name,
        of,
        against,
        limit: Limit::AtMost(most),
        stretch,
    }
}

const fn least(
    name: &'static str,
    of: Pick,
    against: Against,
    least: f64,
    stretch: Option<f64>,
) -> Target {
    let stretch = match stretch {
        Some(least) => Some(Limit::AtLeast(least)),
        None => None,
    };
    Target {
        name,
        of,
        against,
        limit: Limit::AtLeast(least),
        stretch,
    }
}

/// In the order in which they are shown.
const TARGETS: &[Target] = &[
    most(
        "cold alignment, packet limit 65,507 / Redis",
        pick(ALIGN_LARGE, START),
        REDIS_START,
        0.25,
        Some(0.18),
    ),
    most(
        "the same / BIRD iBGP without its stall",
        pick(ALIGN_LARGE, NEGOTIATION),
        Against::Ratio(pick(BIRD_BGP, "first to last record without stalls")),
        0.45,
        None,
    ),
    most(
        "cold alignment, packet limit 1,472, lock step / Redis",
        pick(ALIGN_LOCK_STEP, START),
        REDIS_START,
        0.5,
        Some(0.33),
    ),
    most(
        "cold alignment, packet limit 1,472, between two of ours / Redis",
        pick(ALIGN, START),
        REDIS_START,
        0.3,
        Some(0.2),
    ),
    most(
        "cold alignment, packet limit 65,507 / BIRD OSPF",
        pick(ALIGN_LARGE, NEGOTIATION),
        Against::Ratio(pick(BIRD_OSPF, "exchange start to full")),
        0.2,
        Some(0.1),
    ),
    least(
        "updates originated inside, acknowledged / Redis -P 64",
        pick(FLOOD, ACKNOWLEDGED),
        REDIS_64,
        10.0,
        Some(15.0),
    ),
    least(
        "SET by clients, replicated, -P 64 / Redis",
        pick(CLIENTS, SET_64),
        REDIS_64,
        1.5,
        Some(3.0),
    ),
    least(
        "SET by clients, replicated, -P 1 / Redis",
        pick(CLIENTS, SET_1),
        Against::Ratio(pick(REDIS_CLIENTS, SET_1)),
        1.0,
        Some(3.0),
    ),
    least(
        "updates along A - B - C / two hubs",
        pick(FLOOD_LINE, ACKNOWLEDGED),
        FLOODED,
        0.6,
        Some(0.8),
    ),
    most(
        "write until readable at the other, p50 / Redis",
        pick(CLIENTS, P50),
        REDIS_P50,
        0.75,
        None,
    ),
    most(
        "write until readable at the other, p99 / Redis",
        pick(CLIENTS, P99),
        REDIS_P99,
        0.75,
        None,
    ),
    most(
        "write until readable, busy_poll, p50 / Redis",
        pick(CLIENTS_BUSY, P50),
        REDIS_P50,
        0.75,
        Some(0.4),
    ),
    most(
        "write until readable, busy_poll, p99 / Redis",
        pick(CLIENTS_BUSY, P99),
        REDIS_P99,
        0.75,
        Some(0.4),
    ),
    most(
        "resident octets per record at the source",
        pick(ALIGN, "resident at the source after"),
        Against::Itself,
        100.0,
        Some(80.0),
    ),
    most(
        "resident octets per record at the copy",
        pick(ALIGN, "resident at the copy"),
        Against::Itself,
        100.0,
        Some(80.0),
    ),
    most(
        "resident octets per record at the copy, most records of the growth row",
        pick(GROWTH, "resident at the copy"),
        Against::Itself,
        100.0,
        Some(80.0),
    ),
    most(
        "processor time, aligned / Redis",
        pick(ALIGN, USED),
        Against::Ratio(pick(REDIS_ALIGN, USED)),
        0.4,
        Some(0.2),
    ),
    most(
        "processor time, updated / Redis -P 64",
        pick(FLOOD, "processor time of all"),
        Against::Ratio(pick(
            REDIS_CLIENTS,
            "SET, pipeline 64, processor time of both",
        )),
        0.2,
        Some(0.07),
    ),
    least(
        "updates with HMAC-MD5 / unauthenticated",
        pick(FLOOD_MD5, ACKNOWLEDGED),
        FLOODED,
        0.5,
        None,
    ),
    least(
        "updates with HMAC-SHA-256 / unauthenticated",
        pick(FLOOD_SHA, ACKNOWLEDGED),
        FLOODED,
        0.25,
        None,
    ),
    least(
        "updates with keyed BLAKE3 / unauthenticated",
        pick(FLOOD_BLAKE, ACKNOWLEDGED),
        FLOODED,
        0.75,
        None,
    ),
    least(
        "capacity of a receiving hub, two workers / one",
        pick(FLOOD_TWO, CAPACITY),
        Against::Ratio(pick(FLOOD_ONE, CAPACITY)),
        1.6,
        None,
    ),
    most(
        "system calls of both hubs per 1,000 updates",
        pick(FLOOD_TRACED, "system calls of both ends"),
        Against::Itself,
        3.0,
        Some(1.0),
    ),
    most(
        "growth: time for each record, most / fewest records",
        pick(GROWTH, "time for each record"),
        Against::Smallest,
        1.5,
        None,
    ),
];

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    measure: String,
    target: String,
    stretch: Option<String>,
    results: Vec<Outcome>,
}

/// What one I/O backend made of it.
#[derive(Debug, PartialEq, Serialize)]
struct Outcome {
    backend: String,
    value: f64,
    met: bool,
    stretch_met: Option<bool>,
}

/// Prints the table.
pub(crate) fn run(options: &cli::Targets) -> anyhow::Result<()> {
    let reports = summary::read(&options.files)?;
    let rows = rows(&reports);
    print!("{}", table(&rows));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&rows)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn rows(reports: &[Report]) -> Vec<Row> {
    let row = |target: &Target| Row {
        measure: target.name.to_owned(),
        target: target.limit.label(),
        stretch: target.stretch.map(Limit::label),
        results: backends(reports)
            .into_iter()
            .filter_map(|backend| target.judge(reports, backend))
            .collect(),
    };
    TARGETS.iter().map(row).collect()
}

/// In the order in which they come.
fn backends(reports: &[Report]) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for report in reports {
        if let Some(backend) = report.settings.get("backend")
            && !found.contains(&&**backend)
        {
            found.push(backend);
        }
    }
    found
}

impl Target {
    /// `None` where something was not measured.
    fn judge(&self, reports: &[Report], backend: &str) -> Option<Outcome> {
        let ours = self.of.among(reports, Some(backend));
        let value = match self.against {
            Against::Itself => ours.last()?.value,
            Against::Smallest => {
                let (fewest, most) = (ours.first()?, ours.last()?);
                (fewest.records < most.records).then_some(most.value / fewest.value)?
            }
            Against::Ratio(other) => {
                let is_ours = !other.settings.iter().any(|(name, _)| *name == "server");
                let theirs = other.among(reports, is_ours.then_some(backend));
                let theirs = theirs.last()?;
                let is_alignment = self.of.settings.contains(&("test", "align"));
                let same = |found: &&Found| !is_alignment || found.records == theirs.records;
                ours.iter().rev().find(same)?.value / theirs.value
            }
        };
        Some(Outcome {
            backend: backend.to_owned(),
            value,
            met: self.limit.is_met(value),
            stretch_met: self.stretch.map(|limit| limit.is_met(value)),
        })
    }
}

/// A measure's median.
#[derive(Clone, Copy, Debug)]
struct Found {
    records: u64,
    value: f64,
}

impl Pick {
    /// What fits, by number of records; of scspd on `backend`, or of another program.
    fn among(&self, reports: &[Report], backend: Option<&str>) -> Vec<Found> {
        let setting = |report: &Report, name: &str| {
            let value = report.settings.get(name);
            value.cloned().unwrap_or_default()
        };
        let fits = |report: &&Report| {
            let mut settings = self.settings.iter();
            settings.all(|(name, value)| setting(report, name) == *value)
                && backend.is_none_or(|backend| setting(report, "backend") == backend)
        };
        let found = |report: &Report| {
            let is_it = |measure: &&Measure| measure.name == self.measure;
            let value = report.measures.iter().find(is_it)?.median;
            let records = setting(report, "records").parse().unwrap_or(0);
            Some(Found { records, value })
        };
        let mut all: Vec<_> = reports.iter().filter(fits).filter_map(found).collect();
        all.sort_by_key(|found| found.records);
        all
    }
}

fn table(rows: &[Row]) -> String {
    let mut backends: Vec<&str> = Vec::new();
    for outcome in rows.iter().flat_map(|row| &row.results) {
        if !backends.contains(&&*outcome.backend) {
            backends.push(&outcome.backend);
        }
    }
    let mut out = String::new();
    let mut write = |line: String| writeln!(out, "{line}").expect("a text grows");
    write(format!(
        "| measure | target | stretch | {} |",
        backends.join(" | ")
    ));
    write(format!("|---|---|---|{}", "---:|".repeat(backends.len())));
    for row in rows {
        let cell = |backend: &&str| {
            let outcome = row.results.iter().find(|it| it.backend == *backend);
            outcome.map_or("not measured".to_owned(), Outcome::cell)
        };
        let cells: Vec<_> = backends.iter().map(cell).collect();
        let stretch = row.stretch.as_deref().unwrap_or("");
        write(format!(
            "| {} | {} | {stretch} | {} |",
            row.measure,
            row.target,
            cells.join(" | ")
        ));
    }
    out
}

impl Outcome {
    fn cell(&self) -> String {
        let verdict = match (self.met, self.stretch_met) {
            (_, Some(true)) => "stretch met",
            (true, _) => "met",
            (false, _) => "not met",
        };
        format!("{}, {verdict}", number(self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Better;

    fn report(settings: &[(&str, &str)], measure: &str, value: f64) -> Report {
        let mut report = Report::new(String::new(), String::new());
        for (name, value) in settings {
            report.set(name, value);
        }
        report.add(measure, "", Better::Less, value);
        report
    }

    fn align(records: &str, label: &str, measure: &str, value: f64) -> Report {
        let settings = [
            ("test", "align"),
            ("mtu", "65535"),
            ("backend", "poll"),
            ("server", "scspd"),
            ("records", records),
            ("label", label),
        ];
        report(&settings, measure, value)
    }

    fn redis(records: &str, value: f64) -> Report {
        let settings = [
            ("test", "align"),
            ("server", "redis"),
            ("sync", "diskless"),
            ("records", records),
        ];
        report(&settings, START, value)
    }

    fn result<'a>(rows: &'a [Row], name: &str) -> Option<&'a Outcome> {
        let row = rows.iter().find(|row| row.measure == name);
        row.expect("a target of this name").results.first()
    }

    /// Goal: a ratio compares equal numbers of records, and what was not measured is left out.
    #[test]
    fn ratios_compare_like_with_like() {
        let reports = [
            align("10", "", START, 1.0),
            align("100", "", START, 2.0),
            align("100", "busy", START, 9.0),
            align("1000", "", START, 99.0),
            redis("10", 1.0),
            redis("100", 10.0),
        ];
        let rows = rows(&reports);
        let outcome = result(&rows, TARGETS[0].name).unwrap();
        assert!((outcome.value - 0.2).abs() < 1e-9);
        assert_eq!((outcome.met, outcome.stretch_met), (true, Some(false)));
        assert!(result(&rows, TARGETS[1].name).is_none());
        let table = table(&rows);
        assert!(
            table.contains("| ≤ 0.25 | ≤ 0.18 | 0.200, met |"),
            "{table}"
        );
        assert!(table.contains("not measured"));
    }

    /// Goal: growth compares the most with the fewest records, and wants both.
    #[test]
    fn growth_wants_two_sizes() {
        let grow = |records: &str, value: f64| {
            let mut report = align(records, "growth", "time for each record", value);
            report.set("mtu", &1500);
            report
        };
        let name = TARGETS.last().unwrap().name;
        let one = [grow("1000", 1.0)];
        assert!(result(&rows(&one), name).is_none());
        let two = [grow("1000", 1.0), grow("9", 0.5)];
        let rows = rows(&two);
        let outcome = result(&rows, name).unwrap();
        assert!((outcome.value - 2.0).abs() < 1e-9 && !outcome.met);
    }

    /// Goal: targets have names of their own, and a stretch goes further than its target.
    #[test]
    fn targets_are_consistent() {
        for (at, target) in TARGETS.iter().enumerate() {
            assert!(TARGETS[..at].iter().all(|other| other.name != target.name));
            let further = match (target.limit, target.stretch) {
                (_, None) => true,
                (Limit::AtMost(most), Some(Limit::AtMost(stretch))) => stretch < most,
                (Limit::AtLeast(least), Some(Limit::AtLeast(stretch))) => stretch > least,
                _ => false,
            };
            assert!(further, "{}", target.name);
        }
    }
}
