//! How a running job shows itself: over HTTP, as one line on a terminal, as a line now and then in a log.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use ingest::{Progress, Totals};
use metrics_exporter_prometheus::PrometheusHandle;
use model::{Clock as _, SystemClock};
use serde_json::{Value, json};
use serve::http::{Health, StatusSource};
use tokio::task::JoinHandle;

use crate::terminal;

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
        let reasons = self.progress.unready();
        if !reasons.is_empty() {
            return Health::Unwell(reasons.join("; "));
        }
        let totals = self.progress.totals();
        let lag: Option<u64> = totals.iter().map(|(_, totals)| totals.lag).sum();
        Health::Well(json!({ "uptime_seconds": self.started.elapsed().as_secs(), "lag_records": lag }))
    }

    fn live(&self) -> Health {
        match self.progress.dead() {
            None => Health::Well(json!({ "uptime_seconds": self.started.elapsed().as_secs() })),
            Some(reason) => Health::Unwell(reason),
        }
    }

    fn metrics(&self) -> String {
        self.progress.publish();
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

/// One line on stderr: redrawn each second on a terminal; elsewhere a line now and then, for a log.
pub(crate) struct StatusLine {
    bar: ProgressBar,
    note: Arc<Mutex<String>>,
    redraw: JoinHandle<()>,
}

/// When a log gets its first line: soon, to show that it goes.
const FIRST_LOG_LINE: Duration = Duration::from_secs(5);

impl StatusLine {
    /// `log_interval` is between two lines where stderr is no terminal; zero means none.
    pub(crate) fn start(progress: Arc<Progress>, note: &str, log_interval: Duration) -> Self {
        let note = Arc::new(Mutex::new(note.to_owned()));
        let is_terminal = io::stderr().is_terminal();
        let bar = if is_terminal {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        let redraw = match (is_terminal, log_interval.is_zero()) {
            (true, _) => tokio::spawn(redraw(bar.clone(), Arc::clone(&note), progress)),
            (false, false) => tokio::spawn(log(Arc::clone(&note), progress, log_interval)),
            (false, true) => tokio::spawn(async {}),
        };
        Self { bar, note, redraw }
    }

    /// Prints a line above, on any stderr.
    pub(crate) fn say(&self, text: &str) {
        match self.bar.is_hidden() {
            true => eprintln!("{text}"),
            false => self.bar.println(text),
        }
    }

    /// What is shown beside the figures.
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
        let (first, then) = parts(&before.1, &now.1, now.0 - before.0, &note);
        let width = terminal::width_of(&io::stderr()).unwrap_or(usize::MAX);
        bar.set_message(terminal::line(&first, &then, "streams", width));
        bar.tick();
        before = now;
    }
}

async fn log(note: Arc<Mutex<String>>, progress: Arc<Progress>, interval: Duration) {
    let mut before = (Instant::now(), progress.totals());
    tokio::time::sleep(FIRST_LOG_LINE.min(interval)).await;
    loop {
        let now = (Instant::now(), progress.totals());
        let note = note.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (first, then) = parts(&before.1, &now.1, now.0 - before.0, &note);
        let now_us = u64::try_from(SystemClock.now_us()).unwrap_or_default();
        let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_micros(now_us));
        eprintln!("{time} {}", terminal::line(&first, &then, "streams", usize::MAX));
        before = now;
        tokio::time::sleep(interval).await;
    }
}

/// What matters most (rate, lag, dead letters, the note), then each stream with its rate and version.
fn parts(
    before: &[(String, Totals)],
    now: &[(String, Totals)],
    elapsed: Duration,
    note: &str,
) -> (Vec<String>, Vec<String>) {
    let rate = |records: u64| format!("{:.0}/s", records as f64 / elapsed.as_secs_f64().max(0.001));
    let records: Vec<u64> = before
        .iter()
        .zip(now)
        .map(|((_, before), (_, now))| now.records - before.records)
        .collect();
    let mut first = vec![rate(records.iter().sum())];
    match now.iter().map(|(_, totals)| totals.lag).sum::<Option<u64>>() {
        Some(lag) => first.push(format!("lag {lag}")),
        None => first.push("lag ?".to_owned()),
    }
    let dead_letters = now.iter().map(|(_, totals)| totals.dead_letters).sum::<u64>();
    first.push(format!("{dead_letters} dead letters"));
    if !note.is_empty() {
        first.push(note.to_owned());
    }
    let streams = now.iter().zip(&records).map(|((name, now), records)| {
        let version = now.version.map_or_else(String::new, |version| format!(" v{version}"));
        format!("{} {}{version}", name.trim_end_matches("_data"), rate(*records))
    });
    (first, streams.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_rate_lag_dead_letters_and_the_note_first() {
        let totals = |records, version| Totals {
            records,
            version,
            lag: Some(2),
            ..Totals::default()
        };
        let names = [
            "emergency_data",
            "gps_data",
            "traffic_data",
            "vehicle_data",
            "weather_data",
        ];
        let before = names.map(|name| (name.to_owned(), totals(4, None)));
        let now = names.map(|name| (name.to_owned(), totals(404, Some(12))));
        let (first, then) = parts(&before, &now, Duration::from_secs(2), "on the way");
        assert_eq!(
            terminal::line(&first, &then, "streams", usize::MAX),
            "1000/s · lag 10 · 0 dead letters · on the way · emergency 200/s v12 · gps 200/s v12 · traffic 200/s v12 · \
             vehicle 200/s v12 · weather 200/s v12"
        );
        assert_eq!(
            terminal::line(&first, &then, "streams", 80),
            "1000/s · lag 10 · 0 dead letters · on the way · emergency 200/s v12 · +4 streams"
        );
        assert_eq!(
            terminal::line(&first, &then, "streams", 60),
            "1000/s · lag 10 · 0 dead letters · on the way · +5 streams"
        );
    }
}
