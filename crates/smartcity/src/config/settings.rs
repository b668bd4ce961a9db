//! What settings there are, and which kind of value each has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use auth::{ClientAuth, Mechanism};
use lake::{Location, ParquetProfile};

use super::layers::Layers;
use super::values::{self, ErrorsTolerance, HostPort, Pace, Span, Start};

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) shutdown_timeout: Duration,
    pub(crate) kafka: Kafka,
    pub(crate) lake: Lake,
    pub(crate) parquet: Parquet,
    pub(crate) streams: Streams,
    pub(crate) topics: BTreeMap<String, String>,
    pub(crate) ingest: Ingest,
    pub(crate) up: Up,
    pub(crate) simulator: Simulator,
    pub(crate) broker: Broker,
    pub(crate) http: Http,
    pub(crate) query: Query,
}

#[derive(Debug, Clone)]
pub(crate) struct Kafka {
    pub(crate) bootstrap_servers: String,
    pub(crate) group_id: String,
    pub(crate) properties: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Lake {
    pub(crate) path: Location,
    pub(crate) durability: lake::Durability,
}

#[derive(Debug, Clone)]
pub(crate) struct Parquet {
    pub(crate) profile: ParquetProfile,
}

#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub(crate) struct Ingest {
    pub(crate) application: String,
    pub(crate) starting_offsets: StartingOffsets,
    pub(crate) fail_on_data_loss: bool,
    pub(crate) errors_tolerance: ErrorsTolerance,
    pub(crate) errors_window: u64,
    pub(crate) migrated_topics: BTreeMap<String, String>,
    pub(crate) dlq_topic: Option<String>,
    pub(crate) latency: Duration,
    pub(crate) batch_records_max: u64,
    pub(crate) batch_bytes_max: usize,
    pub(crate) open_bytes_max: usize,
    pub(crate) workers: usize,
    pub(crate) queued_bytes_max: usize,
    pub(crate) http_listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartingOffsets {
    Earliest,
    Latest,
}

#[derive(Debug, Clone)]
pub(crate) struct Up {
    pub(crate) latency: Duration,
    pub(crate) profile: Profile,
    pub(crate) start: Option<Start>,
    pub(crate) pace: Option<Pace>,
    pub(crate) log_interval: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Simulator {
    pub(crate) profile: Profile,
    pub(crate) seed: u64,
    pub(crate) start: Start,
    pub(crate) pace: Option<Pace>,
    pub(crate) vehicles: u32,
    pub(crate) rate: f64,
    pub(crate) duration: Option<Span>,
    pub(crate) threads: usize,
    pub(crate) snapshots: bool,
    pub(crate) faults: String,
    pub(crate) truth: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Classic,
    Fleet,
}

#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) listen: HostPort,
    pub(crate) advertised: Option<HostPort>,
    pub(crate) data_dir: PathBuf,
    pub(crate) partitions: i32,
    pub(crate) retention: Duration,
    pub(crate) durability: broker::Durability,
    pub(crate) http_listen: Option<SocketAddr>,
    pub(crate) tls: BrokerTls,
    pub(crate) sasl: BrokerSasl,
}

#[derive(Debug, Clone)]
pub(crate) struct BrokerTls {
    pub(crate) certificate_chain: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub(crate) struct BrokerSasl {
    pub(crate) users: Option<PathBuf>,
    pub(crate) mechanisms: Vec<Mechanism>,
    pub(crate) session_lifetime: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) memory_bytes_max: usize,
}

const PROFILES: [(&str, Profile); 2] = [("classic", Profile::Classic), ("fleet", Profile::Fleet)];
const PARQUET_PROFILES: [(&str, ParquetProfile); 2] = [
    ("compatible", ParquetProfile::Compatible),
    ("compact", ParquetProfile::Compact),
];
const STARTING_OFFSETS: [(&str, StartingOffsets); 2] = [
    ("earliest", StartingOffsets::Earliest),
    ("latest", StartingOffsets::Latest),
];

impl Config {
    /// Reads the settings of all layers; what is wrong with them is noted there.
    pub(super) fn read(from: &mut Layers) -> Self {
        let path = |text: &str| Ok(PathBuf::from(text));
        let text = |text: &str| Ok(text.to_owned());
        Self {
            shutdown_timeout: from.parsed("shutdown_timeout", values::duration),
            kafka: Kafka {
                bootstrap_servers: from.text("kafka.bootstrap_servers"),
                group_id: from.text("kafka.group_id"),
                properties: from.free_table("kafka.properties"),
            },
            lake: Lake {
                path: from.parsed("lake.path", values::location),
                durability: from.parsed("lake.durability", str::parse),
            },
            parquet: Parquet {
                profile: from.parsed("parquet.profile", |text| values::one_of(text, &PARQUET_PROFILES)),
            },
            streams: Streams {
                dir: from.optional("streams.dir", path),
            },
            topics: from.free_table("topics"),
            ingest: Ingest {
                application: from.text("ingest.application"),
                starting_offsets: from.parsed("ingest.starting_offsets", |text| {
                    values::one_of(text, &STARTING_OFFSETS)
                }),
                fail_on_data_loss: from.boolean("ingest.fail_on_data_loss"),
                errors_tolerance: from.parsed("ingest.errors_tolerance", str::parse),
                errors_window: from.integer("ingest.errors_window"),
                migrated_topics: from.parsed("ingest.migrated_topics", values::pairs),
                dlq_topic: from.optional("ingest.dlq_topic", text),
                latency: from.parsed("ingest.latency", values::duration),
                batch_records_max: from.integer("ingest.batch_records_max"),
                batch_bytes_max: from.integer("ingest.batch_bytes_max"),
                open_bytes_max: from.integer("ingest.open_bytes_max"),
                workers: from.integer("ingest.workers"),
                queued_bytes_max: from.integer("ingest.queued_bytes_max"),
                http_listen: from.optional("ingest.http_listen", values::address),
            },
            up: Up {
                latency: from.parsed("up.latency", values::duration),
                profile: from.parsed("up.profile", |text| values::one_of(text, &PROFILES)),
                start: from.optional("up.start", str::parse),
                pace: from.optional("up.pace", str::parse),
                log_interval: from.parsed("up.log_interval", values::duration),
            },
            simulator: Simulator {
                profile: from.parsed("simulator.profile", |text| values::one_of(text, &PROFILES)),
                seed: from.integer("simulator.seed"),
                start: from.parsed("simulator.start", str::parse),
                pace: from.optional("simulator.pace", str::parse),
                vehicles: from.integer("simulator.vehicles"),
                rate: from.float("simulator.rate"),
                duration: from.optional("simulator.duration", str::parse),
                threads: from.integer("simulator.threads"),
                snapshots: from.boolean("simulator.snapshots"),
                faults: from.text("simulator.faults"),
                truth: from.optional("simulator.truth", path),
            },
            broker: Broker {
                listen: from.parsed("broker.listen", str::parse),
                advertised: from.optional("broker.advertised", str::parse),
                data_dir: from.parsed("broker.data_dir", path),
                partitions: from.integer("broker.partitions"),
                retention: from.parsed("broker.retention", values::duration),
                durability: from.parsed("broker.durability", str::parse),
                http_listen: from.optional("broker.http_listen", values::address),
                tls: BrokerTls {
                    certificate_chain: from.optional("broker.tls.certificate_chain", path),
                    key: from.optional("broker.tls.key", path),
                    client_auth: from.parsed("broker.tls.client_auth", str::parse),
                    client_ca: from.optional("broker.tls.client_ca", path),
                },
                sasl: BrokerSasl {
                    users: from.optional("broker.sasl.users", path),
                    mechanisms: from.parsed("broker.sasl.mechanisms", values::list),
                    session_lifetime: from.parsed("broker.sasl.session_lifetime", values::duration),
                },
            },
            http: Http {
                listen: from.optional("http.listen", values::address),
            },
            query: Query {
                memory_bytes_max: from.integer("query.memory_bytes_max"),
            },
        }
    }
}
