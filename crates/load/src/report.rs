//! Results: one value per run and measure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Less,
    More,
}

/// All runs of one test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The work, the same for every system that did it.
    pub(crate) job: String,
    /// What did the work.
    pub(crate) system: String,
    /// Options that are neither.
    pub(crate) settings: BTreeMap<String, String>,
    /// In the order in which they are shown.
    pub(crate) measures: Vec<Measure>,
    /// Whether all servers held the same state at the end of every run.
    pub(crate) equal: bool,
}

/// One quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) better: Better,
    /// By run.
    pub(crate) values: Vec<f64>,
    /// Of the values; there is at least one.
    pub(crate) median: f64,
}

impl Report {
    /// Without measures yet.
    pub(crate) fn new(job: String, system: String) -> Self {
        Self {
            job,
            system,
            settings: BTreeMap::new(),
            measures: Vec::new(),
            equal: true,
        }
    }

    /// What did the work, with the label that sets it apart.
    pub(crate) fn full_name(&self) -> String {
        match self.settings.get("label").map(String::as_str) {
            None | Some("") => self.system.clone(),
            Some(label) => format!("{}, {label}", self.system),
        }
    }

    /// Notes an option.
    pub(crate) fn setting(mut self, name: &str, value: &dyn ToString) -> Self {
        self.set(name, value);
        self
    }

    /// Notes an option.
    pub(crate) fn set(&mut self, name: &str, value: &dyn ToString) {
        self.settings.insert(name.to_owned(), value.to_string());
    }

    /// Adds shares of sorted nanoseconds, as microseconds.
    pub(crate) fn add_latencies(&mut self, name: &str, sorted_ns: &[u64]) {
        for (share_name, share) in [("p50", 500), ("p99", 990)] {
            let micros = count_f64(per_mille(sorted_ns, share)) / 1000.0;
            let name = format!("{name} {share_name}");
            self.add(&name, "us", Better::Less, micros);
        }
    }

    /// Adds a run's value of a measure.
    pub(crate) fn add(&mut self, name: &str, unit: &str, better: Better, value: f64) {
        let known = self
            .measures
            .iter_mut()
            .find(|measure| measure.name == name);
        match known {
            Some(measure) => measure.push(&[value]),
            None => self.measures.push(Measure {
                name: name.to_owned(),
                unit: unit.to_owned(),
                better,
                values: vec![value],
                median: value,
            }),
        }
    }

    /// Takes in further runs of the same.
    pub(crate) fn merge(&mut self, other: Self) {
        self.equal &= other.equal;
        for measure in other.measures {
            match self
                .measures
                .iter_mut()
                .find(|known| known.name == measure.name)
            {
                Some(known) => known.push(&measure.values),
                None => self.measures.push(measure),
            }
        }
    }
}

impl Measure {
    /// Name and unit.
    pub(crate) fn label(&self) -> String {
        match &*self.unit {
            "" => self.name.clone(),
            unit => format!("{}, {unit}", self.name),
        }
    }

    fn push(&mut self, values: &[f64]) {
        self.values.extend_from_slice(values);
        self.median = median(&self.values);
    }
}

/// For measures, where the last digits do not count.
#[expect(
    clippy::cast_precision_loss,
    reason = "measures are shown with four digits"
)]
pub(crate) const fn count_f64(count: u64) -> f64 {
    count as f64
}

/// The middle one, or the mean of the two; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        Some(value) if sorted.len() % 2 == 1 => *value,
        Some(value) => f64::midpoint(sorted[middle - 1], *value),
        None => 0.0,
    }
}

/// A share in thousandths of sorted values; 0 of none.
pub(crate) fn per_mille(sorted: &[u64], share: usize) -> u64 {
    let rank = (sorted.len() * share).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Four digits that count, thousands separated.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 1000.0 {
        let decimals = match value.abs() {
            size if size >= 100.0 || size == 0.0 => 0,
            size if size >= 10.0 => 1,
            size if size >= 1.0 => 2,
            size if size >= 0.1 => 3,
            _ => 5,
        };
        return format!("{value:.decimals$}");
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", &*digits), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.system, self.job)?;
        let settings: Vec<_> = self
            .settings
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        writeln!(f, "  {}", settings.join(", "))?;
        let runs = self
            .measures
            .iter()
            .map(|measure| measure.values.len())
            .max()
            .unwrap_or(0);
        let wide = self
            .measures
            .iter()
            .map(|it| it.label().len())
            .max()
            .unwrap_or(0);
        for measure in &self.measures {
            let name = measure.label();
            write!(f, "  {name:wide$} {:>12}", number(measure.median))?;
            if runs > 1 {
                let values: Vec<_> = measure.values.iter().map(|value| number(*value)).collect();
                write!(f, "   of {}", values.join("  "))?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "  state at the end: {}",
            if self.equal { "equal" } else { "NOT EQUAL" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: medians of odd and even counts; runs are collected by measure.
    #[test]
    fn runs_make_a_median() {
        let mut report = Report::new("job".to_owned(), "system".to_owned());
        for value in [3.0, 1.0, 2.0] {
            report.add("time", "s", Better::Less, value);
        }
        assert!((report.measures[0].median - 2.0).abs() < 1e-9);
        let mut more = report.clone();
        more.measures[0].values = vec![10.0];
        more.equal = false;
        report.merge(more);
        assert!((report.measures[0].median - 2.5).abs() < 1e-9);
        assert!(!report.equal);
    }

    /// Goal: shares of few and many values, and of none.
    #[test]
    fn shares_of_sorted_values() {
        let sorted: Vec<u64> = (1..=1000).collect();
        assert_eq!(
            (per_mille(&sorted, 500), per_mille(&sorted, 990)),
            (500, 990)
        );
        assert_eq!((per_mille(&[7], 990), per_mille(&[], 500)), (7, 0));
    }

    /// Goal: numbers read well at every size.
    #[test]
    fn numbers_are_readable() {
        let shown = [
            0.0,
            0.012_345,
            0.5,
            1.234,
            12.34,
            999.4,
            1000.0,
            1_234_567.8,
        ]
        .map(number);
        assert_eq!(
            shown,
            [
                "0",
                "0.01235",
                "0.500",
                "1.23",
                "12.3",
                "999",
                "1,000",
                "1,234,568"
            ]
        );
    }
}
