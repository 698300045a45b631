//! Waiting on RabbitMQ: a queue for each step, whose messages expire into the queue that they wait for (delivery.md §13). A wait that is
//! finer than a step goes through the largest that fits, again and again; the last rest is waited for in the process. Pure.

use std::time::Duration;

/// The steps in seconds: doubled up to five minutes, then an hour. A queue each, so few enough to be looked at.
const STEPS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 3_600];

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Step(u64);

impl Step {
    /// The largest one that ends before the wait does; none: the rest is too short for any.
    pub(super) fn within(rest: Duration) -> Option<Self> {
        STEPS.into_iter().rev().find(|step| *step <= rest.as_secs()).map(Self)
    }

    /// How long it lasts, in milliseconds.
    pub(super) fn millis(self) -> u64 {
        self.0 * 1_000
    }

    /// The queue in which messages of another one wait for this long.
    pub(super) fn queue(self, target: &str) -> String {
        match self.0 {
            hour if hour % 3_600 == 0 => format!("{target}.wait-{}h", hour / 3_600),
            minutes if minutes % 60 == 0 => format!("{target}.wait-{}m", minutes / 60),
            seconds => format!("{target}.wait-{seconds}s"),
        }
    }

    /// All queues in which messages of another one may wait.
    pub(super) fn queues(target: &str) -> impl Iterator<Item = String> {
        STEPS.into_iter().map(|step| Self(step).queue(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_step_that_fits_is_taken() {
        for (millis, step) in [
            (0, None),
            (999, None),
            (1_000, Some(1)),
            (3_999, Some(2)),
            (90_000, Some(64)),
            (299_999, Some(256)),
            (300_000, Some(300)),
            (3_599_000, Some(300)),
            (86_400_000, Some(3_600)),
        ] {
            assert_eq!(Step::within(Duration::from_millis(millis)), step.map(Step), "{millis}");
        }
    }

    #[test]
    fn any_wait_is_over_after_few_steps() {
        let mut rest = Duration::from_millis(24 * 3_600_000 - 1);
        let mut steps = 0;
        while let Some(step) = Step::within(rest) {
            rest -= Duration::from_millis(step.millis());
            steps += 1;
        }
        assert!(rest < Duration::from_secs(1) && steps < 50, "{rest:?} after {steps}");
    }

    #[test]
    fn names_say_how_long() {
        let queues: Vec<_> = Step::queues("q").collect();
        assert_eq!(queues[0], "q.wait-1s");
        assert_eq!(queues[6..], ["q.wait-64s", "q.wait-128s", "q.wait-256s", "q.wait-5m", "q.wait-1h"]);
    }
}
