//! How a running job shows itself: over HTTP, and as one line a second on a terminal.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ingest::{Progress, Totals};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use serve::http::{Health, StatusSource};
use tokio::task::JoinHandle;

/// The job as HTTP shows it.
pub(crate) struct JobStatus {
    progress: Arc<Progress>,
    metrics: PrometheusHandle,
    started: Instant,
}

impl JobStatus {
    pub(crate) fn new(progress: Arc<Progress>, metrics: PrometheusHandle) -> Self {
        Self {
            progress,
            metrics,
            started: Instant::now(),
        }
    }
}

impl StatusSource for JobStatus {
    fn progress(&self) -> Value {
        serde_json::to_value(self.progress.report()).unwrap_or_default()
    }

    fn health(&self) -> Health {
        let stopped = self.progress.stopped_streams();
        if !stopped.is_empty() {
            let reasons: Vec<_> = stopped
                .iter()
                .map(|(name, excess)| format!("{name} was stopped: {excess}"))
                .collect();
            return Health::Unwell(reasons.join("; "));
        }
        let totals = self.progress.totals();
        let lag: Option<u64> = totals.iter().map(|(_, totals)| totals.lag).sum();
        Health::Well(json!({ "uptime_seconds": self.started.elapsed().as_secs(), "lag_records": lag }))
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }
}

/// A bar on a terminal's stderr; nothing elsewhere.
pub(crate) fn bar(template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// One line on stderr, redrawn each second; nothing when stderr is no terminal.
pub(crate) struct StatusLine {
    bar: ProgressBar,
    note: Arc<Mutex<String>>,
    redraw: JoinHandle<()>,
}

impl StatusLine {
    pub(crate) fn start(progress: Arc<Progress>, note: &str) -> Self {
        let bar = if io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        let note = Arc::new(Mutex::new(note.to_owned()));
        let redraw = tokio::spawn(redraw(bar.clone(), Arc::clone(&note), progress));
        Self { bar, note, redraw }
    }

    /// Prints a line above, on any stderr.
    pub(crate) fn say(&self, text: &str) {
        match self.bar.is_hidden() {
            true => eprintln!("{text}"),
            false => self.bar.println(text),
        }
    }

    /// What stands at the line's end.
    pub(crate) fn set_note(&self, note: &str) {
        note.clone_into(&mut self.note.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) async fn end(self) {
        self.redraw.abort();
        self.redraw.await.ok();
        self.bar.finish_and_clear();
    }
}

async fn redraw(bar: ProgressBar, note: Arc<Mutex<String>>, progress: Arc<Progress>) {
    let mut before = (Instant::now(), progress.totals());
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = (Instant::now(), progress.totals());
        let note = note.lock().unwrap_or_else(PoisonError::into_inner).clone();
        bar.set_message(line(&before.1, &now.1, now.0 - before.0, &note));
        bar.tick();
        before = now;
    }
}

/// `vehicle 4/s v12 · gps 4/s v12 · ... · lag 0 · 3 dead letters · note`
fn line(before: &[(String, Totals)], now: &[(String, Totals)], elapsed: Duration, note: &str) -> String {
    let mut parts: Vec<String> = before
        .iter()
        .zip(now)
        .map(|((_, before), (name, now))| {
            let rate = (now.records - before.records) as f64 / elapsed.as_secs_f64().max(0.001);
            let version = now.version.map_or_else(String::new, |version| format!(" v{version}"));
            format!("{} {rate:.0}/s{version}", name.trim_end_matches("_data"))
        })
        .collect();
    match now.iter().map(|(_, totals)| totals.lag).sum::<Option<u64>>() {
        Some(lag) => parts.push(format!("lag {lag}")),
        None => parts.push("lag ?".to_owned()),
    }
    parts.push(format!(
        "{} dead letters",
        now.iter().map(|(_, totals)| totals.dead_letters).sum::<u64>()
    ));
    if !note.is_empty() {
        parts.push(note.to_owned());
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_rates_versions_lag_and_letters() {
        let totals = |records, version| Totals {
            records,
            version,
            lag: Some(2),
            ..Totals::default()
        };
        let before = [
            ("gps_data".to_owned(), totals(4, None)),
            ("vehicle_data".to_owned(), totals(0, None)),
        ];
        let now = [
            ("gps_data".to_owned(), totals(12, Some(3))),
            ("vehicle_data".to_owned(), totals(0, None)),
        ];
        assert_eq!(
            line(&before, &now, Duration::from_secs(2), "on the way"),
            "gps 4/s v3 · vehicle 0/s · lag 4 · 0 dead letters · on the way"
        );
    }
}
