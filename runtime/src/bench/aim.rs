//! What the whole path over a broker is held to: the bare client and the bare engine, and little more. Pure.

use super::Row;

/// What Weir may add to the bare client and the bare engine, in CPU microseconds per event.
const ADDED_US: f64 = 10.0;

/// The part of what that cost allows on the cores in use that is to be reached.
const REACHED: f64 = 0.9;

/// One figure and its bound.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Aim {
    /// What is held to it.
    pub name: &'static str,
    /// The bound.
    pub aim: f64,
    /// What was measured.
    pub measured: f64,
    /// Whether it is kept.
    pub holds: bool,
}

/// The aims of the rows, if there is a broker's among them; `cores` are those that this process has for itself.
#[must_use]
pub(super) fn aims(rows: &[Row], cores: f64) -> Vec<Aim> {
    let row = |name: &str| rows.iter().find(|row| row.name == name);
    let (Some(tuned), Some(client), Some(path)) = (row("tuned"), row("client"), row("broker")) else { return Vec::new() };
    let cost = client.cpu_us + tuned.cpu_us + ADDED_US;
    let rate = REACHED * cores * 1e6 / cost;
    vec![
        Aim { name: "CPU µs/event at most", aim: cost, measured: path.cpu_us, holds: path.cpu_us <= cost },
        Aim { name: "events/s at least", aim: rate, measured: path.events_per_second, holds: path.events_per_second >= rate },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_held_to_client_and_engine() {
        let row = |name, cpu_us, events_per_second| Row { name, cpu_us, ratio: 1.0, events_per_second };
        for (cpu_us, rate, holds) in [(17.0, 106_000.0, [true, true]), (17.1, 105_000.0, [false, false])] {
            let rows = [row("tuned", 5.0, 1.0), row("client", 2.0, 1.0), row("broker", cpu_us, rate)];
            // Nine tenths of what 17 µs allow on two cores are 105,882 events a second.
            let aims = aims(&rows, 2.0);
            assert_eq!([0, 1].map(|at: usize| aims[at].holds), holds);
            assert!((aims[0].aim - 17.0).abs() < 1e-9);
        }
        assert_eq!(aims(&[row("tuned", 5.0, 1.0)], 2.0), []);
    }
}
