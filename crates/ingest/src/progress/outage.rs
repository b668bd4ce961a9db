//! What does not answer, and since when. The same failure is one line a minute, however often it is tried again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// What a job depends on. A stream is meant by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Kafka,
    Lake,
    /// The stream's table, or its dead letters.
    Table(usize),
    /// Where the stream's dead letters go as well.
    DlqTopic(usize),
}

/// All that does not answer now.
#[derive(Debug, Default)]
pub(crate) struct Outages(BTreeMap<Part, Outage>);

#[derive(Debug, Clone)]
pub(crate) struct Outage {
    pub(crate) since: Instant,
    pub(crate) tries: u64,
    pub(crate) error: String,
    said_at: Instant,
    unsaid: u64,
}

impl Outages {
    /// A try has failed. How many tries a line about it stands for, when it is time for one.
    pub(crate) fn failed(&mut self, part: Part, error: String, now: Instant) -> Option<u64> {
        let Some(outage) = self.0.get_mut(&part) else {
            let outage = Outage {
                since: now,
                tries: 1,
                error,
                said_at: now,
                unsaid: 0,
            };
            self.0.insert(part, outage);
            return Some(1);
        };
        outage.tries += 1;
        outage.unsaid += 1;
        outage.error = error;
        if now.saturating_duration_since(outage.said_at) < LINE_INTERVAL {
            return None;
        }
        outage.said_at = now;
        Some(std::mem::take(&mut outage.unsaid))
    }

    /// It has answered; the outage that this ends.
    pub(crate) fn answered(&mut self, part: Part) -> Option<Outage> {
        self.0.remove(&part)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Part, &Outage)> {
        self.0.iter().map(|(part, outage)| (*part, outage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_one_line_a_minute_with_its_tries() {
        let mut outages = Outages::default();
        let start = Instant::now();
        let mut lines = Vec::new();
        for second in 0..150 {
            let now = start + Duration::from_secs(second);
            lines.extend(outages.failed(Part::Kafka, format!("try {second}"), now));
        }
        assert_eq!(lines, [1, 60, 60]);
        assert_eq!(outages.failed(Part::Table(3), String::new(), start), Some(1));
        let ended = outages.answered(Part::Kafka).unwrap();
        assert_eq!((ended.since, ended.tries, &*ended.error), (start, 150, "try 149"));
        assert!(outages.answered(Part::Kafka).is_none());
        assert_eq!(outages.iter().count(), 1);
    }
}
