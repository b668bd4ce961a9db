//! The parts of ingest alone, on the same bytes: read from Kafka, decode, encode. Each in records per CPU-second of this
//! process. `parts BOOTSTRAP_SERVERS TOPIC RECORDS`

use std::collections::BTreeSet;
use std::env::args;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bench::{VEHICLE_DATA, cpu_seconds};
use codec::Decoder;
use kafka::{Event, KafkaConfig, KafkaSource, Source as _, Subscription};
use lake::{Lake, Names};
use model::{Chunk, Stream, SystemClock};

fn main() -> Result<()> {
    let arguments: Vec<String> = args().skip(1).collect();
    let [bootstrap_servers, topic, records] = arguments.as_slice() else {
        anyhow::bail!("usage: parts BOOTSTRAP_SERVERS TOPIC RECORDS");
    };
    let records: usize = records.parse()?;

    let mut kept: Vec<Chunk> = Vec::new();
    let before = cpu_seconds();
    let config = KafkaConfig::new(bootstrap_servers);
    let mut source = KafkaSource::open(&config, &[topic], Subscription::All, 16 << 20)?;
    let mut read = 0;
    while read < records {
        for event in source.poll(Duration::from_millis(50), true)? {
            match event {
                Event::Assigned(partitions) => {
                    source.assign(
                        &partitions
                            .into_iter()
                            .map(|partition| (partition, 0))
                            .collect::<Vec<_>>(),
                    )?;
                }
                Event::Chunk(chunk) => {
                    read += chunk.len();
                    if kept.len() < 100 {
                        kept.push(chunk);
                    }
                }
                Event::Revoked(_) => {}
            }
        }
    }
    let read_rate = read as f64 / (cpu_seconds() - before);
    drop(source);

    let stream = Stream::parse("vehicle_data.toml", VEHICLE_DATA)?;
    let (mut decoder, mut batches, mut letters) = (Decoder::new(&stream), Vec::new(), Vec::new());
    let in_memory: usize = kept.iter().map(Chunk::len).sum();
    let rounds = (2_000_000 / in_memory.max(1)).max(1);
    let before = cpu_seconds();
    for round in 0..rounds {
        for chunk in &kept {
            decoder.decode(chunk, &BTreeSet::new(), 0, &mut letters);
            if decoder.rows() >= 16_384 {
                let batch = decoder.take();
                if round == 0 {
                    batches.extend(batch);
                }
            }
        }
    }
    let decode_rate = (rounds * in_memory) as f64 / (cpu_seconds() - before);
    anyhow::ensure!(letters.is_empty(), "a record was not decoded: {:?}", letters[0]);

    let runtime = tokio::runtime::Runtime::new()?;
    let dir = std::env::temp_dir().join(format!("smartcity-bench-{}", std::process::id()));
    let location = dir.display().to_string();
    let table = runtime.block_on(async {
        let lake = Lake::open(&location, Arc::new(SystemClock), Names::seeded(1)).await?;
        lake.table(&stream, "bench").await
    })?;
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    let rounds = (2_000_000 / rows.max(1)).max(1);
    let mut bytes = 0;
    let before = cpu_seconds();
    for _ in 0..rounds {
        let mut writer = table.file_writer();
        for batch in &batches {
            writer.write(batch)?;
        }
        bytes = writer.finish()?.bytes();
    }
    let encode_rate = (rounds * rows) as f64 / (cpu_seconds() - before);
    std::fs::remove_dir_all(&dir)?;

    let figures = serde_json::json!({
        "read": read_rate.round(), "decode": decode_rate.round(), "encode": encode_rate.round(),
        "bytes_per_row": bytes as f64 / rows as f64,
    });
    println!("{figures}");
    Ok(())
}
