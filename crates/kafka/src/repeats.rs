//! A message that repeats: said at once, then once a minute with how often it came. A client that cannot reach its cluster
//! reports the same error at each try, thousands of times an hour.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(60);
/// Different messages that are remembered; the one that was said the longest ago is forgotten first.
const MESSAGES_MAX: usize = 64;

/// The messages of one client.
#[derive(Debug, Default)]
pub(crate) struct Repeats(HashMap<String, Said>);

#[derive(Debug)]
struct Said {
    at: Instant,
    unsaid: u64,
}

impl Repeats {
    /// How many messages of this kind one line stands for, when it is time for a line; `None` when it is not. `kind` may
    /// hold numbers (ports, durations, counts): they do not tell two messages apart.
    pub(crate) fn count(&mut self, kind: &str, now: Instant) -> Option<u64> {
        let kind = without_numbers(kind);
        if let Some(said) = self.0.get_mut(&kind) {
            said.unsaid += 1;
            if now.saturating_duration_since(said.at) < INTERVAL {
                return None;
            }
            said.at = now;
            return Some(std::mem::take(&mut said.unsaid));
        }
        if self.0.len() >= MESSAGES_MAX {
            let oldest = self
                .0
                .iter()
                .min_by_key(|(_, said)| said.at)
                .map(|(kind, _)| kind.clone());
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        self.0.insert(kind, Said { at: now, unsaid: 0 });
        Some(1)
    }
}

/// Each run of digits as one `0`.
fn without_numbers(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_ascii_digit() {
            true if kept.ends_with('0') => {}
            true => kept.push('0'),
            false => kept.push(letter),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_message_is_one_line_a_minute_with_its_count() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let mut lines = Vec::new();
        // One in 100 ms, for five minutes.
        for tick in 0..3_000_u32 {
            let message = format!(
                "127.0.0.1:{}: refused (after {tick}ms in state CONNECT)",
                9092 + tick % 2
            );
            lines.extend(repeats.count(&message, start + Duration::from_millis(100) * tick));
        }
        assert_eq!(lines, [1, 600, 600, 600, 600]);
        // Another one is said at once.
        assert_eq!(repeats.count("unknown topic", start), Some(1));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        for number in 0..1_000_u32 {
            let kind = "x".repeat(number as usize);
            repeats.count(&kind, start + Duration::from_millis(u64::from(number)));
        }
        assert_eq!(repeats.0.len(), MESSAGES_MAX);
        assert!(repeats.0.contains_key(&"x".repeat(999)));
    }
}
