//! Fills a topic with `vehicle_data` records: `fill BOOTSTRAP_SERVERS TOPIC PARTITIONS RECORDS`

use std::env::args;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bench::vehicle_message;
use kafka::{KafkaConfig, Message, Producer, create_topics};

fn main() -> Result<()> {
    let arguments: Vec<String> = args().skip(1).collect();
    let [bootstrap_servers, topic, partitions, records] = arguments.as_slice() else {
        anyhow::bail!("usage: fill BOOTSTRAP_SERVERS TOPIC PARTITIONS RECORDS");
    };
    let mut config = KafkaConfig::new(bootstrap_servers);
    // The figures are for uncompressed records, as the peers' are.
    config
        .properties
        .insert("compression.type".to_owned(), "none".to_owned());
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(create_topics(&config, &[topic], partitions.parse()?))?;
    let producer = Producer::open(&config, Duration::from_millis(50))?;
    for number in 0..records.parse().context("RECORDS")? {
        // Keys spread the records over the partitions.
        let message = Message {
            key: Some(&u64::to_be_bytes(number)),
            value: Some(&vehicle_message(number)),
            headers: &[],
        };
        producer.send(topic, message)?;
    }
    let delivery = producer.flush(Duration::from_secs(300))?;
    println!("{}", delivery.delivered);
    Ok(())
}
