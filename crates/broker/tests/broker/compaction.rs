//! Compacted topics and the broker's own, as a client sees them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use broker::{Broker, BrokerConfig};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as Code;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as Resource, AlterableConfig as Change,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;

use crate::support::*;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn config(dir: &Path) -> BrokerConfig {
    let mut config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), dir);
    config.cleaner_interval = Duration::from_millis(100);
    config
}

fn create(stream: &mut std::net::TcpStream, name: &str, settings: &[(&str, &str)]) -> i16 {
    let configs = settings.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    let wanted = CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![wanted])
        .with_timeout_ms(1000);
    let answer: CreateTopicsResponse = ask(stream, 7, &frame(ApiKey::CreateTopics, 7, &request));
    answer.topics[0].error_code
}

fn keyed(key: &str, value: Option<&str>) -> Bytes {
    let mut fields = vec![0];
    varlong(&mut fields, 0);
    varlong(&mut fields, 0);
    for field in [Some(key), value] {
        varlong(&mut fields, field.map_or(-1, |field| field.len() as i64));
        fields.extend_from_slice(field.unwrap_or("").as_bytes());
    }
    varlong(&mut fields, 0);
    let mut whole = Vec::new();
    varlong(&mut whole, fields.len() as i64);
    whole.extend(fields);
    batch(0, 1, &whole)
}

fn policy(stream: &mut std::net::TcpStream, name: &str) -> String {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text("cleanup.policy")]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer: DescribeConfigsResponse = ask(stream, 4, &frame(ApiKey::DescribeConfigs, 4, &request));
    answer.results[0].configs[0].value.clone().unwrap().to_string()
}

fn alter(stream: &mut std::net::TcpStream, name: &str, operation: i8, value: &str) -> i16 {
    let change = Change::default()
        .with_name(text("cleanup.policy"))
        .with_config_operation(operation)
        .with_value(Some(text(value)));
    let resource = Resource::default()
        .with_resource_type(2)
        .with_resource_name(text(name))
        .with_configs(vec![change]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let frame = frame(ApiKey::IncrementalAlterConfigs, 1, &request);
    let answer: IncrementalAlterConfigsResponse = ask(stream, 1, &frame);
    answer.responses[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_takes_keys_alone_and_becomes_small() {
    let dir = TempDir::new().unwrap();
    let broker = Broker::start(config(dir.path())).await.unwrap();
    let mut stream = connect(broker.address());
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "2048"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    assert_eq!(create(&mut stream, "t", &settings), 0);
    assert_eq!(policy(&mut stream, "t"), "compact");
    let keyless = batch(0, 1, &record(0, b"v"));
    assert_eq!(produce(&mut stream, "t", keyless), Code::InvalidRecord.code());
    for i in 0..400 {
        let value = i.to_string();
        assert_eq!(
            produce(&mut stream, "t", keyed(&format!("key{}", i % 3), Some(&value))),
            0
        );
    }
    // Reads go on while segments are exchanged under them.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let read = read_from(&mut stream, "t", 0);
        assert_eq!(read.last().unwrap().0, 399);
        if read.len() < 100 {
            break;
        }
        assert!(Instant::now() < deadline, "{} batches are still there", read.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(latest_time(&mut stream, "t", -1), (0, 400));
    assert_eq!(latest_time(&mut stream, "t", -2), (0, 0));
    broker.shutdown().await.unwrap();
    let broker = Broker::start(config(dir.path())).await.unwrap();
    let mut stream = connect(broker.address());
    assert_eq!(latest_time(&mut stream, "t", -1), (0, 400));
    assert!(read_from(&mut stream, "t", 0).len() < 100);
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_a_list() {
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    let dir = TempDir::new().unwrap();
    let broker = Broker::start(config(dir.path())).await.unwrap();
    let mut stream = connect(broker.address());
    for (given, code) in [
        ("compact", 0),
        ("compact,delete", 0),
        ("delete, compact", 0),
        ("", Code::InvalidConfig.code()),
        ("compact,", Code::InvalidConfig.code()),
        ("compress", Code::InvalidConfig.code()),
    ] {
        let name = format!("t{}", given.len());
        assert_eq!(
            create(&mut stream, &name, &[("cleanup.policy", given)]),
            code,
            "{given}"
        );
    }
    assert_eq!(create(&mut stream, "t", &[]), 0);
    assert_eq!(alter(&mut stream, "t", APPEND, "compact"), 0);
    assert_eq!(policy(&mut stream, "t"), "delete,compact");
    let keyless = || batch(0, 1, &record(0, b"v"));
    assert_eq!(produce(&mut stream, "t", keyless()), Code::InvalidRecord.code());
    assert_eq!(alter(&mut stream, "t", SUBTRACT, "delete"), 0);
    assert_eq!(policy(&mut stream, "t"), "compact");
    assert_eq!(alter(&mut stream, "t", SUBTRACT, "compact"), Code::InvalidConfig.code());
    assert_eq!(alter(&mut stream, "t", APPEND, "delete"), 0);
    assert_eq!(alter(&mut stream, "t", SUBTRACT, "compact"), 0);
    assert_eq!(produce(&mut stream, "t", keyless()), 0);
    // The older request replaces all.
    let setting = AlterableConfig::default()
        .with_name(text("cleanup.policy"))
        .with_value(Some(text("compact")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![setting]);
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    let answer: AlterConfigsResponse = ask(&mut stream, 2, &frame(ApiKey::AlterConfigs, 2, &request));
    assert_eq!(answer.responses[0].error_code, 0);
    assert_eq!(policy(&mut stream, "t"), "compact");
    broker.shutdown().await.unwrap();
}

/// Name and whether it is internal, of each topic.
fn topics(stream: &mut std::net::TcpStream) -> Vec<(String, bool)> {
    let request = MetadataRequest::default().with_topics(None);
    let answer: MetadataResponse = ask(stream, 12, &frame(ApiKey::Metadata, 12, &request));
    let topics = answer.topics.iter().map(|topic| {
        assert_eq!(topic.partitions.len(), 1);
        (topic.name.as_ref().unwrap().to_string(), topic.is_internal)
    });
    topics.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_own_topics_are_seen_and_not_written_to() {
    let dir = TempDir::new().unwrap();
    let broker = Broker::start(config(dir.path())).await.unwrap();
    let mut stream = connect(broker.address());
    assert_eq!(create(&mut stream, "mine", &[]), 0);
    assert_eq!(topics(&mut stream), [("mine".to_owned(), false)]);
    for key_type in [0, 1, 0] {
        let request = FindCoordinatorRequest::default()
            .with_key_type(key_type)
            .with_coordinator_keys(vec![text("g")]);
        let answer: FindCoordinatorResponse = ask(&mut stream, 4, &frame(ApiKey::FindCoordinator, 4, &request));
        assert_eq!(answer.coordinators[0].error_code, 0);
    }
    let (offsets, transactions) = ("__consumer_offsets", "__transaction_state");
    let all = [
        (offsets.to_owned(), true),
        (transactions.to_owned(), true),
        ("mine".to_owned(), false),
    ];
    assert_eq!(topics(&mut stream), all);
    for name in [offsets, transactions] {
        assert_eq!(policy(&mut stream, name), "compact");
        let refused = Code::InvalidTopicException.code();
        assert_eq!(produce(&mut stream, name, keyed("k", Some("v"))), refused);
        assert_eq!(delete_before(&mut stream, name, 0), refused);
        let wanted = DeleteTopicState::default().with_name(Some(topic(name)));
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(1000);
        let answer: DeleteTopicsResponse = ask(&mut stream, 6, &frame(ApiKey::DeleteTopics, 6, &request));
        assert_eq!(answer.responses[0].error_code, Code::TopicDeletionDisabled.code());
        assert!(read_from(&mut stream, name, 0).is_empty());
    }
    broker.shutdown().await.unwrap();
    let broker = Broker::start(config(dir.path())).await.unwrap();
    assert_eq!(topics(&mut connect(broker.address())), all);
    broker.shutdown().await.unwrap();
}

/// Every file and folder below with its mode.
fn modes(dir: &Path, found: &mut Vec<(String, bool, u32)>) {
    let mode = dir.metadata().unwrap().permissions().mode() & 0o777;
    found.push((dir.display().to_string(), dir.is_dir(), mode));
    if dir.is_dir() {
        for entry in std::fs::read_dir(dir).unwrap() {
            modes(&entry.unwrap().path(), found);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_are_their_owners_alone() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    // As an older version left it.
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let broker = Broker::start(config(&data)).await.unwrap();
    let mut stream = connect(broker.address());
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1024"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    assert_eq!(create(&mut stream, "t", &settings), 0);
    for _ in 0..60 {
        assert_eq!(produce(&mut stream, "t", keyed("k", Some("v"))), 0);
    }
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    let _: FindCoordinatorResponse = ask(&mut stream, 4, &frame(ApiKey::FindCoordinator, 4, &request));
    tokio::time::sleep(Duration::from_secs(2)).await;
    broker.shutdown().await.unwrap();
    let mut found = Vec::new();
    modes(&data, &mut found);
    assert!(found.len() > 15, "{found:?}");
    for (path, is_dir, mode) in found {
        assert_eq!(mode, if is_dir { 0o700 } else { 0o600 }, "{path}");
    }
}
