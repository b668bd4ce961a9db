//! `smartcity lake history`

use std::path::Path;

use anyhow::Result;
use lake::Root;
use lake::delta::{HistoryEntry, history};
use model::event_time::{DAY_US, civil_from_days, days};

use crate::args::LakeArgs;
use crate::config;
use crate::exit::usage;
use crate::process::{block_on, init_logging};
use crate::terminal::stdout_width;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lake: LakeArgs,
    /// Only these tables
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    table: Vec<String>,
    /// Versions shown of each table, the newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(file: Option<&Path>, args: &Args) -> Result<()> {
    init_logging("error");
    let config = &config::load(file, &args.lake.flags())?;
    block_on(async {
        let root = Root::at(&config.lake.path, std::env::vars())?;
        let mut names = root.table_names().await?;
        if names.is_empty() {
            return Err(usage(format!("there are no tables in {}", root.location())));
        }
        let is_unknown = |name: &&String| !names.contains(name);
        let unknown: Vec<String> = args
            .table
            .iter()
            .filter(is_unknown)
            .map(|name| format!("`{name}`"))
            .collect();
        if !unknown.is_empty() {
            return Err(usage(format!(
                "there is no table {}; there are {}",
                unknown.join(", "),
                names.join(", ")
            )));
        }
        names.retain(|name| args.table.is_empty() || args.table.contains(name));
        let mut tables = serde_json::Map::new();
        for name in names {
            let versions = history(&root.location_of(&name), args.limit).await?;
            match args.json {
                true => drop(tables.insert(name, versions.iter().map(json).collect())),
                false => print(&name, &versions, stdout_width()),
            }
        }
        if args.json {
            println!("{}", serde_json::json!({ "lake": root.location(), "tables": tables }));
        }
        Ok(())
    })
}

fn json(entry: &HistoryEntry) -> serde_json::Value {
    serde_json::json!({
        "version": entry.version,
        "committed_at": instant(entry.committed_at_us),
        "operation": entry.operation,
        "engine": entry.engine,
        "rows": entry.rows,
        "rows_added": entry.rows_added,
        "rows_removed": entry.rows_removed,
        "files_added": entry.files_added,
        "files_removed": entry.files_removed,
    })
}

/// `width` is the terminal's.
fn print(name: &str, versions: &[HistoryEntry], width: Option<usize>) {
    println!("{name}");
    println!(
        "{}",
        line(width, ["version", "committed at", "rows", "change", "operation"])
    );
    for entry in versions {
        let rows = entry.rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
        let (version, time, change) = (entry.version.to_string(), instant(entry.committed_at_us), change(entry));
        let operation = entry.operation.as_deref().unwrap_or("-");
        println!("{}", line(width, [&version, &time, &rows, &change, operation]));
    }
    if versions.last().is_some_and(|oldest| oldest.version > 0) {
        println!("      ... --limit shows older versions");
    }
}

/// One line of the table. Where there is no room for it the change is left out, which the rows tell too, and the end of
/// the operation.
fn line(width: Option<usize>, [version, time, rows, change, operation]: [&str; 5]) -> String {
    let width = width.unwrap_or(usize::MAX);
    let mut line = format!("{version:>9}  {time:<27}  {rows:>9}");
    if width >= 80 {
        line.push_str(&format!("  {change:>9}"));
    }
    let room = width.saturating_sub(line.chars().count() + 2);
    let is_cut = operation.chars().count() > room;
    let shown: String = operation
        .chars()
        .take(if is_cut { room.saturating_sub(1) } else { room })
        .collect();
    format!("{line}  {shown}{}", if is_cut { "…" } else { "" })
}

/// By how many rows a version differs from the one before.
fn change(entry: &HistoryEntry) -> String {
    match (entry.rows_added, entry.rows_removed) {
        (Some(added), Some(removed)) if added < removed => format!("-{}", removed - added),
        (Some(added), Some(removed)) => format!("+{}", added - removed),
        _ => "?".to_owned(),
    }
}

/// ISO 8601 in UTC, to the microsecond where there are any: what `--as-of` takes, and exactly this version by it.
fn instant(us: i64) -> String {
    let (year, month, day) = civil_from_days(days(us));
    let of_day = us.rem_euclid(DAY_US);
    let (seconds, us) = (of_day / 1_000_000, of_day % 1_000_000);
    let fraction = if us == 0 { String::new() } else { format!(".{us:06}") };
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{fraction}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_what_as_of_reads() {
        for (us, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_767_225_600_000_001, "2026-01-01T00:00:00.000001Z"),
            (1_767_225_599_999_999, "2025-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(instant(us), text);
            assert_eq!(model::event_time::parse(text.as_bytes()), Some(us));
        }
    }

    #[test]
    fn a_line_fits_the_terminal() {
        let cells = [
            "12345",
            "2026-01-01T00:00:00.000001Z",
            "123456789",
            "+100000",
            "STREAMING UPDATE",
        ];
        for columns in 60..100 {
            let line = line(Some(columns), cells);
            assert!(line.chars().count() <= columns, "{columns}: {line}");
            assert_eq!(line.contains("+100000"), columns >= 80, "{columns}: {line}");
        }
        assert!(line(Some(80), cells).ends_with("STREAMING UPDATE"));
        assert!(line(Some(60), cells).ends_with("STREAMIN…"));
    }
}
