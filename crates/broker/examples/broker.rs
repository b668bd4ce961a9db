//! A broker on its own, for trying clients against it: `cargo run -p broker --example broker -- 127.0.0.1:9092 DIR`.
//! `--segment-bytes N` makes small segments, `--durability os` leaves it to the system when the disk gets the records.

use std::net::SocketAddr;

use broker::{Broker, BrokerConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: broker ADDRESS DATA_DIR [--segment-bytes N] [--durability fsync|os]";
    let listen: SocketAddr = arguments.next().ok_or(usage)?.parse()?;
    let mut config = BrokerConfig::new(listen, arguments.next().ok_or(usage)?);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--segment-bytes" => config.segment_bytes = arguments.next().ok_or(usage)?.parse()?,
            "--durability" => config.durability = arguments.next().ok_or(usage)?.parse()?,
            _ => return Err(usage.into()),
        }
    }
    let broker = Broker::start(config).await?;
    println!("{}", broker.address());
    tokio::signal::ctrl_c().await?;
    broker.shutdown().await?;
    Ok(())
}
