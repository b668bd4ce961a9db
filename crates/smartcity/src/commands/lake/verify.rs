//! `smartcity lake verify`

use std::path::Path;

use anyhow::{Context as _, Result};
use kafka::{KafkaSource, Subscription};
use lake::Root;
use lake::verify::{Finding, Severity, TableReport, Verifier, VerifyOptions};

use crate::args::{KafkaArgs, LakeArgs, StreamsArgs};
use crate::clients::kafka_config;
use crate::config::{self, Config};
use crate::declarations;
use crate::exit::{damaged, usage};
use crate::print::until_closed;
use crate::process::{block_on, init_logging};
use crate::status::bar;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lake: LakeArgs,
    /// Check only these tables
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    table: Vec<String>,
    /// Compare every row and dead letter with its record in Kafka
    #[arg(long)]
    against_kafka: bool,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    streams: StreamsArgs,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(file: Option<&Path>, verify: &Args) -> Result<()> {
    init_logging("error");
    let flags = [verify.lake.flags(), verify.kafka.flags(), verify.streams.flags()];
    let config = &config::load(file, &flags.concat())?;
    let streams = declarations::load(config, &[])?;
    block_on(async {
        let root = Root::at(&config.lake.path, std::env::vars())?;
        let names = root.table_names().await?;
        // A mistaken prefix must not pass for a good lake.
        if names.is_empty() {
            return Err(usage(format!("there are no tables in {}", root.location())));
        }
        if let Some(unknown) = verify.table.iter().find(|name| !names.contains(name)) {
            return Err(usage(format!(
                "the lake has no table `{unknown}`; it has {}",
                names.join(", ")
            )));
        }
        let bar = bar("{msg} {wide_bar} {percent}% {eta}");
        let progress = |table: &str, done: u64, of: u64| {
            bar.set_length(of);
            bar.set_position(done);
            if bar.message() != table {
                bar.set_message(table.to_owned());
            }
        };
        let options = VerifyOptions {
            digests: verify.against_kafka,
            ..VerifyOptions::default()
        };
        let verifier = Verifier::open(&root, &verify.table, options, &progress).await?;
        let mut reports = Vec::new();
        for name in names
            .iter()
            .filter(|name| verify.table.is_empty() || verify.table.contains(name))
        {
            let mut table = verifier.table(name).await?;
            let stream = streams.iter().find(|stream| stream.name == *name);
            if verify.against_kafka && stream.is_none() && !model::is_reserved_table(name) {
                let why = "no stream of this name is declared".to_owned();
                table.report.findings.add(Finding::NotCompared { why });
            }
            if let (true, Some(stream), true) = (verify.against_kafka, stream, table.is_comparable()) {
                let topics: Vec<String> = table.digests.keys().map(|place| place.topic.to_string()).collect();
                let mut source = open_source(config, topics).await?;
                bar.set_length(table.report.rows);
                let counted = |records| bar.set_position(records);
                ingest::verify::against_kafka(stream, &mut source, &verifier, &mut table, &counted).await?;
            }
            reports.push(table.report);
        }
        bar.finish_and_clear();
        let count = |severity| {
            let of = |report: &&TableReport| report.findings.worst() == Some(severity);
            reports.iter().filter(of).count()
        };
        let (faulty, unchecked) = (count(Severity::Fault), count(Severity::Unchecked));
        if verify.json {
            let verdict = serde_json::json!({
                "lake": root.location(),
                "tables": reports,
                "faulty_tables": faulty,
                "unchecked_tables": unchecked,
                "doubtful_tables": count(Severity::Doubt),
            });
            until_closed(&format!("{verdict}\n"))?;
        } else {
            until_closed(&reports.iter().map(text).collect::<String>())?;
        }
        let of = reports.len();
        match (faulty, unchecked) {
            (0, 0) => Ok(()),
            (0, unchecked) => Err(damaged(format!(
                "{unchecked} of {of} tables could not be checked whole"
            ))),
            (faulty, _) => Err(damaged(format!("{faulty} of {of} tables are not as they should be"))),
        }
    })
}

async fn open_source(config: &Config, mut topics: Vec<String>) -> Result<KafkaSource> {
    topics.dedup();
    let (kafka, queued_bytes_max) = (kafka_config(config)?, config.ingest.queued_bytes_max);
    let opened = tokio::task::spawn_blocking(move || {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        KafkaSource::open(&kafka, &topics, Subscription::All, queued_bytes_max)
    });
    Ok(opened.await.context("the Kafka client did not start")??)
}

fn text(report: &TableReport) -> String {
    let verdict = match report.findings.worst() {
        Some(Severity::Fault) => "FAULTY",
        Some(Severity::Unchecked) => "NOT CHECKED",
        Some(Severity::Doubt) => "in doubt",
        _ => "good",
    };
    let mut lines = vec![format!(
        "{}: {verdict}, version {}, {} rows in {} files, {} checksums compared",
        report.table, report.version, report.rows, report.files, report.checksums
    )];
    if report.empty_messages > 0 {
        lines.push(format!("  {} messages without elements", report.empty_messages));
    }
    for partition in &report.partitions {
        let mut line = format!(
            "  {}[{}] from {} to {}: {} rows, {} dead letters",
            partition.topic,
            partition.partition,
            partition.start,
            partition.recorded,
            partition.rows,
            partition.letters
        );
        for (count, what) in [
            (partition.gap_offsets, "in gaps"),
            (partition.erased, "erased"),
            (partition.removed, "removed"),
            (partition.skipped, "without a record"),
            (partition.unexplained, "unexplained"),
            (partition.lost, "lost"),
            (partition.doubled, "doubled"),
        ] {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        if let Some(compared) = partition.compared {
            line.push_str(&format!(", {compared} records compared"));
        }
        lines.push(line);
    }
    for finding in report.findings.told() {
        lines.push(format!("  {}: {finding}", finding.severity().as_str()));
    }
    for (kind, more) in report.findings.untold() {
        lines.push(format!("  and {more} more of {kind}"));
    }
    lines.join("\n") + "\n"
}
