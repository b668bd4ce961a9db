//! `smartcity status`: what every table of the lake holds, declared or not.

use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use futures::TryStreamExt as _;
use ingest::drift::{Drift, extra_columns};
use model::{COMMITS, DEAD_LETTERS, ERASURES, EXTRA, GAPS, INGESTED_AT, Stream, Streams, TOPIC};
use serde_json::{Value, json};
use serve::output::{Format, write_result};
use serve::sql::Engine;

use crate::args::{LakeArgs, StreamsArgs};
use crate::clients::open_tables;
use crate::config;
use crate::declarations;
use crate::process::{block_on, init_logging};
use crate::terminal;

/// Undeclared fields that are shown of each stream, the most frequent first.
const FIELDS_SHOWN: usize = 20;
/// The lake's own tables.
const BOOKKEEPING: [&str; 4] = [DEAD_LETTERS, GAPS, ERASURES, COMMITS];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    streams: StreamsArgs,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// What is known of one table.
struct Table {
    name: String,
    /// `None` where no declaration names the table.
    topic: Option<String>,
    rows: Value,
    last_event_time: Value,
    last_ingested: Value,
    /// Counts by stage, class and field, the most frequent first.
    dead_letters: Vec<Value>,
    drift: Drift,
}

pub(crate) fn run(file: Option<&Path>, args: &Args) -> Result<()> {
    init_logging("error");
    let config = config::load(file, &[args.lake.flags(), args.streams.flags()].concat())?;
    let streams = declarations::load(&config, &[])?;
    block_on(async {
        let (engine, names) = open_tables(&config).await?;
        let mut tables = Vec::new();
        for name in names.iter().filter(|name| !BOOKKEEPING.contains(&name.as_str())) {
            tables.push(Table::read(&engine, name, &streams, &names).await?);
        }
        if args.json {
            let tables: Vec<Value> = tables.iter().map(Table::json).collect();
            println!("{}", json!({ "lake": config.lake.path.as_str(), "streams": tables }));
            return Ok(());
        }
        if tables.is_empty() {
            eprintln!("no stream has been ingested into {} yet", config.lake.path);
        }
        let width = terminal::width_of(&io::stdout()).unwrap_or(usize::MAX);
        for line in tables.iter().flat_map(Table::lines) {
            println!("{}", terminal::cut(&line, width));
        }
        Ok(())
    })
}

impl Table {
    async fn read(engine: &Engine, name: &str, streams: &Streams, names: &[String]) -> Result<Self> {
        let stream = streams.get(name);
        let columns = columns(engine, name).await?;
        let has = |column: &str| columns.iter().any(|known| known == column);
        let max = |column: Option<&str>| match column.filter(|column| has(column)) {
            Some(column) => format!(r#"max("{column}")"#),
            None => "null".to_owned(),
        };
        // The declaration says which column is the event time. Without one the table's other columns are as good.
        let sql = format!(
            r#"select count(*) as rows, {} as last_event_time, {} as last_ingested from "{name}""#,
            max(stream.map(|stream| stream.event_time_column())),
            max(Some(INGESTED_AT)),
        );
        let figures = objects(engine, &sql).await?.into_iter().next();
        let figures = figures.context("count(*) gave no row")?;
        let has_letters = names.iter().any(|name| name == DEAD_LETTERS);
        let topics = match stream {
            Some(stream) => Some(format!("'{}'", stream.topic.replace('\'', "''"))),
            // Rows name their topic. A table with dead letters alone has none, and nobody knows whose they are.
            None => has(TOPIC).then(|| format!(r#"select distinct split_part("{TOPIC}", '#', 1) from "{name}""#)),
        };
        Ok(Self {
            name: name.to_owned(),
            topic: stream.map(|stream| stream.topic.clone()),
            rows: figures["rows"].clone(),
            last_event_time: figures["last_event_time"].clone(),
            last_ingested: figures["last_ingested"].clone(),
            dead_letters: match topics.filter(|_| has_letters) {
                Some(topics) => dead_letters(engine, &topics).await?,
                None => Vec::new(),
            },
            drift: match stream.filter(|_| has(EXTRA)) {
                Some(stream) => drift(engine, stream).await?,
                None => Drift::default(),
            },
        })
    }

    fn json(&self) -> Value {
        json!({
            "stream": self.name, "topic": self.topic, "declared": self.topic.is_some(), "rows": self.rows,
            "last_event_time": self.last_event_time, "last_ingested": self.last_ingested,
            "dead_letters": self.dead_letters, "rows_with_undeclared_fields": self.drift.rows,
            "undeclared_fields": self.drift.fields, "other_undeclared_fields": self.drift.others,
            "unreadable_rows": self.drift.unreadable_rows, "unreadable": self.drift.unreadable,
        })
    }

    /// Each short enough for a narrow terminal, but for long names.
    fn lines(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let count = |letters: &Value| letters["dead_letters"].as_u64().unwrap_or_default();
        let letters: u64 = self.dead_letters.iter().map(count).sum();
        let undeclared = if self.topic.is_some() {
            ""
        } else {
            " (not declared here: see --streams)"
        };
        let mut lines = vec![
            format!("{}: {} rows, {letters} dead letters{undeclared}", self.name, self.rows),
            format!("  last ingested    {}", text(&self.last_ingested)),
        ];
        if self.topic.is_some() {
            lines.push(format!("  last event time  {}", text(&self.last_event_time)));
        }
        for letters in &self.dead_letters {
            let field = letters["field"].as_str();
            let field = field.map_or_else(String::new, |field| format!(" in {field}"));
            let (stage, class) = (text(&letters["stage"]), text(&letters["error_class"]));
            lines.push(format!("  {:>9} {stage} {class}{field}", count(letters)));
        }
        if self.drift.rows > 0 {
            lines.push(format!(
                "  undeclared fields in {} rows, kept in _extra:",
                self.drift.rows
            ));
            let mut fields: Vec<_> = self.drift.fields.iter().collect();
            fields.sort_by(|(a, many), (b, more)| more.cmp(many).then(a.cmp(b)));
            let shown = fields.iter().take(FIELDS_SHOWN);
            lines.extend(shown.map(|(field, count)| format!("  {count:>9} {field}")));
            let more = fields.len().saturating_sub(FIELDS_SHOWN);
            if more > 0 || self.drift.others > 0 {
                lines.push(format!("  and {more} more: --json shows up to a thousand"));
            }
        }
        if self.drift.unreadable_rows > 0 {
            lines.push(format!(
                "  {} rows whose _extra is not JSON:",
                self.drift.unreadable_rows
            ));
            lines.extend(self.drift.unreadable.iter().map(|row| format!("    {row}")));
        }
        lines
    }
}

async fn columns(engine: &Engine, table: &str) -> Result<Vec<String>> {
    let result = engine.query(&format!(r#"select * from "{table}" limit 0"#)).await?;
    let schema = result.schema();
    Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
}

/// `topics` is a list or a subquery of Kafka's names. A topic that was recreated is recorded with its id behind a `#`.
async fn dead_letters(engine: &Engine, topics: &str) -> Result<Vec<Value>> {
    let sql = format!(
        "select stage, error_class, field, count(*) as dead_letters from dead_letters where split_part(topic, '#', 1) in ({topics}) \
         group by stage, error_class, field order by dead_letters desc, stage, error_class, field",
    );
    objects(engine, &sql).await
}

async fn drift(engine: &Engine, stream: &Stream) -> Result<Drift> {
    let columns = extra_columns();
    let sql = format!(r#"select {columns} from "{}" where {EXTRA} is not null"#, stream.name);
    let mut drift = Drift::of(stream);
    let mut batches = engine.query(&sql).await?;
    while let Some(batch) = batches.try_next().await? {
        drift.add(&batch).map_err(|error| anyhow!("{}: {error}", stream.name))?;
    }
    Ok(drift)
}

/// A small result, an object for each row.
async fn objects(engine: &Engine, sql: &str) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    write_result(engine.query(sql).await?, Format::Json, &mut lines).await?;
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)
}
