//! Prometheus text, as much as Weir writes, and the counting identity.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the text. No label of a test has a quote, a comma or an equals sign in it.
    ///
    /// # Panics
    /// When it is no such text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(samples.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line:?}"))).collect())
    }

    /// The sum of the samples of this name that have these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |sample: &Sample| labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|has| has == value));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole and positive")]
        let whole = |value: f64| value as u64;
        self.0.iter().filter(|sample| sample.name == name && has(sample)).map(|sample| whole(sample.value)).sum()
    }

    /// Whether there is a family of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }

    /// received = acked + dead + filtered + expired + duplicate + returned + in flight + parked, per queue and handler.
    ///
    /// # Panics
    /// When it does not hold.
    #[track_caller]
    pub fn assert_identity(&self) {
        for received in self.0.iter().filter(|sample| sample.name == "weir_events_received_total") {
            let labels: Vec<(&str, &str)> = received.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let term = |name| self.sum(name, &labels);
            let ended = term("weir_events_ended_total");
            let returned = term("weir_events_returned_total");
            let (in_flight, parked) = (term("weir_events_in_flight"), term("weir_events_parked"));
            assert_eq!(
                self.sum("weir_events_received_total", &labels),
                ended + returned + in_flight + parked,
                "{labels:?}: ended {ended}, returned {returned}, in flight {in_flight}, parked {parked}"
            );
        }
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let label = |label: &str| {
        let (name, value) = label.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(label).collect::<Option<_>>()?;
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}
