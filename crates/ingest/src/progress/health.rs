//! Whether a job does what it is for: what `/livez` and `/readyz` answer. Pure: the facts and the time go in, the reasons
//! come out.

use std::time::{Duration, Instant};

use super::outage::Outages;
use crate::tolerance::Excess;

/// A try that fails now and then is no outage.
const OUTAGE_GRACE: Duration = Duration::from_secs(5);
/// A reader waits for Kafka and for a drain, each of them not for so long.
const READER_SILENCE_MAX: Duration = Duration::from_secs(120);

/// What a job is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not reading yet; what it waits for.
    Starting(&'static str),
    Running,
    Stopping,
}

/// One stream, as far as its health goes.
#[derive(Debug, Clone)]
pub(crate) struct StreamHealth<'a> {
    pub(crate) name: &'a str,
    pub(crate) lag: Option<u64>,
    /// The last commit, or when it fell behind, if that was later; `None` while nothing waits in Kafka.
    pub(crate) waiting_since: Option<Instant>,
    pub(crate) stopped: Option<Excess>,
}

/// Why the job is not ready, one reason each; none when it is.
pub(crate) fn unready(
    phase: Phase,
    streams: &[StreamHealth<'_>],
    outages: &Outages,
    part_name: impl Fn(super::outage::Part) -> String,
    commit_age_max: Duration,
    now: Instant,
) -> Vec<String> {
    let mut reasons = Vec::new();
    match phase {
        Phase::Starting(what) => reasons.push(format!("starting: {what}")),
        Phase::Stopping => reasons.push("shutting down".to_owned()),
        Phase::Running => {}
    }
    for stream in streams {
        if let Some(excess) = stream.stopped {
            reasons.push(format!("{} was stopped: {excess}", stream.name));
        }
    }
    for (part, outage) in outages.iter() {
        let age = now.saturating_duration_since(outage.since);
        if age >= OUTAGE_GRACE {
            reasons.push(format!(
                "{} has not answered for {} s ({} tries): {}",
                part_name(part),
                age.as_secs(),
                outage.tries,
                outage.error
            ));
        }
    }
    for stream in streams.iter().filter(|stream| stream.stopped.is_none()) {
        let age = stream.waiting_since.map(|since| now.saturating_duration_since(since));
        if let Some(age) = age.filter(|age| *age > commit_age_max) {
            reasons.push(format!(
                "{} is {} records behind and has had no commit for {} s",
                stream.name,
                stream.lag.unwrap_or_default(),
                age.as_secs()
            ));
        }
    }
    reasons
}

/// Why the process cannot mend itself: it must be started again.
pub(crate) fn dead(phase: Phase, reader_moved: Instant, now: Instant) -> Option<String> {
    let silence = now.saturating_duration_since(reader_moved);
    (phase == Phase::Running && silence > READER_SILENCE_MAX)
        .then(|| format!("the reader has not moved for {} s", silence.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::super::outage::Part;
    use super::*;

    const COMMIT_AGE_MAX: Duration = Duration::from_secs(60);

    fn reasons(phase: Phase, streams: &[StreamHealth<'_>], outages: &Outages, now: Instant) -> Vec<String> {
        unready(phase, streams, outages, |part| format!("{part:?}"), COMMIT_AGE_MAX, now)
    }

    #[test]
    fn readiness_follows_the_phase_outages_and_the_age_of_the_last_commit() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let idle = StreamHealth {
            name: "gps",
            lag: Some(0),
            waiting_since: None,
            stopped: None,
        };
        let behind = StreamHealth {
            lag: Some(7),
            waiting_since: Some(start),
            ..idle.clone()
        };
        let none = Outages::default();
        assert_eq!(
            reasons(Phase::Running, std::slice::from_ref(&idle), &none, after(900)),
            [""; 0]
        );
        assert_eq!(
            reasons(Phase::Running, std::slice::from_ref(&behind), &none, after(60)),
            [""; 0]
        );
        assert_eq!(
            reasons(Phase::Running, &[idle.clone(), behind], &none, after(75)),
            ["gps is 7 records behind and has had no commit for 75 s"]
        );
        assert_eq!(
            reasons(Phase::Starting("opening tables"), &[], &none, start),
            ["starting: opening tables"]
        );
        assert_eq!(reasons(Phase::Stopping, &[], &none, start), ["shutting down"]);
        // Also while nothing waits in Kafka, as far as anyone knows.
        let mut outages = Outages::default();
        outages.failed(Part::Kafka, "refused".to_owned(), start);
        outages.failed(Part::Kafka, "timed out".to_owned(), after(3));
        assert_eq!(
            reasons(Phase::Running, std::slice::from_ref(&idle), &outages, after(4)),
            [""; 0]
        );
        assert_eq!(
            reasons(Phase::Running, &[idle], &outages, after(20)),
            ["Kafka has not answered for 20 s (2 tries): timed out"]
        );
    }

    #[test]
    fn only_a_reader_that_hangs_is_dead() {
        let start = Instant::now();
        let late = start + READER_SILENCE_MAX + Duration::from_secs(1);
        assert_eq!(dead(Phase::Running, start, start + READER_SILENCE_MAX), None);
        assert_eq!(dead(Phase::Starting("opening tables"), start, late), None);
        let told = dead(Phase::Running, start, late).unwrap();
        assert_eq!(told, "the reader has not moved for 121 s");
    }
}
