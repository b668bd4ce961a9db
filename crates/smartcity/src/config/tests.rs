//! The layers, and what is said of mistakes.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use auth::{ClientAuth, Mechanism};

use super::layers::Layers;
use super::values::HostPort;
use super::*;

fn load(file: &str, environment: &[(&str, &str)], flags: &Flags) -> Result<Config> {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file).unwrap();
    let environment = environment
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Config::load(Some(path.path()), environment, flags)
}

fn error(file: &str, environment: &[(&str, &str)]) -> String {
    let error = format!("{:#}", load(file, environment, &Vec::new()).unwrap_err());
    error
        .rsplit_once('/')
        .map_or(error.clone(), |(_, last)| last.to_owned())
}

#[test]
fn every_setting_has_a_default() {
    let config = load("", &[], &Vec::new()).unwrap();
    assert_eq!(config.up.pace, None);
    assert_eq!(config.up.profile, Profile::Fleet);
    assert_eq!(config.simulator.rate, 1.0);
    assert_eq!(config.ingest.latency, Duration::from_secs(10));
    assert_eq!(config.http.listen, Some("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(config.streams.dir, None);
    assert_eq!(config.parquet.profile, lake::ParquetProfile::Compatible);
}

#[test]
fn the_parquet_profile_is_set_by_every_layer() {
    let profile = |file: &str, environment: &[(&str, &str)], flags: &Flags| {
        load(file, environment, flags).unwrap().parquet.profile
    };
    let (file, variable) = (
        "[parquet]\nprofile = \"compact\"\n",
        ("SMARTCITY_PARQUET_PROFILE", "compact"),
    );
    let flag = vec![("parquet.profile", "compact".to_owned())];
    assert_eq!(profile(file, &[], &Vec::new()), lake::ParquetProfile::Compact);
    assert_eq!(profile("", &[variable], &Vec::new()), lake::ParquetProfile::Compact);
    assert_eq!(profile("", &[], &flag), lake::ParquetProfile::Compact);
    let wrong = error("[parquet]\nprofile = \"small\"\n", &[]);
    assert!(wrong.contains("small") && wrong.contains("compatible"), "{wrong}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[ingest]\nlatency = \"1s\"\nworkers = 3\n[topics]\ngps_data = \"file\"\n";
    let environment = [
        ("SMARTCITY_INGEST_LATENCY", "2s"),
        ("GPS_TOPIC", "original"),
        ("VEHICLE_TOPIC", "v"),
        ("SMARTCITY_TOPICS_VEHICLE_DATA", "w"),
        ("HOME", "x"),
    ];
    let config = load(file, &environment, &vec![("lake.path", "/l".to_owned())]).unwrap();
    assert_eq!(config.ingest.latency, Duration::from_secs(2));
    assert_eq!(config.ingest.workers, 3);
    assert_eq!(config.topics["gps_data"], "original");
    assert_eq!(config.topics["vehicle_data"], "w");
    assert_eq!(config.lake.path.as_str(), "/l");
}

#[test]
fn a_mistake_names_its_place_and_the_nearest_right_key() {
    let has = |text: String, part: &str| assert!(text.contains(part), "wanted {part}\n   got {text}");
    has(
        error("\n[ingest]\nlatancy = \"1s\"\n", &[]),
        ":3: unknown setting `ingest.latancy`; did you mean `ingest.latency`?",
    );
    has(
        error("[ingset]\nlatency = \"1s\"\n", &[]),
        ":1: unknown setting `ingset`; did you mean `ingest`?",
    );
    has(
        error("[ingest]\nworkers = \"two\"\n", &[]),
        ":2: `ingest.workers` must be an integer, not \"two\"",
    );
    has(error("[ingest\n", &[]), ":1: ");
    has(
        error("[ingest]\nlatency = \"soon\"\n", &[]),
        "`soon` is no duration; write it as 500ms, 10s or 5min",
    );
    has(
        error("[broker]\ndurability = \"never\"\n", &[]),
        "`never` is not a durability; write fsync or os, in `broker.durability`",
    );
    has(
        error("", &[("SMARTCITY_INGEST_LATENCI", "1s")]),
        "environment variable SMARTCITY_INGEST_LATENCI is no setting; did you mean `SMARTCITY_INGEST_LATENCY`?",
    );
    has(
        error("", &[("SMARTCITY_INGEST_WORKERS", "two")]),
        "`ingest.workers` must be a whole number, not `two`",
    );
}

#[test]
fn the_brokers_doors_are_read() {
    let file = "[broker.sasl]\nusers = \"u\"\nmechanisms = \"SCRAM-SHA-512, PLAIN\"\nsession_lifetime = \"1h\"\n";
    let environment = [
        ("SMARTCITY_BROKER_ADVERTISED", "kafka.example:9093"),
        ("SMARTCITY_BROKER_TLS_CLIENT_AUTH", "required"),
    ];
    let broker = load(file, &environment, &Vec::new()).unwrap().broker;
    assert_eq!(broker.sasl.mechanisms, [Mechanism::ScramSha512, Mechanism::Plain]);
    assert_eq!(broker.sasl.session_lifetime, Duration::from_secs(3600));
    assert_eq!(broker.tls.client_auth, ClientAuth::Required);
    assert_eq!((broker.tls.key, broker.sasl.users), (None, Some("u".into())));
    assert_eq!(broker.advertised.unwrap().host, "kafka.example");
    let host = |text: &str| text.parse::<HostPort>().map(|at| at.host);
    assert_eq!(host("[::1]:9092").unwrap(), "::1");
    for bad in ["host", ":1", "host:", "::1:9092", "host:99999", "[]:1"] {
        assert!(host(bad).is_err(), "{bad}");
    }
    let told = error("[broker.sasl]\nmechanisms = \"GSSAPI\"\n", &[]);
    assert!(told.contains("`GSSAPI` is no mechanism"), "{told}");
}

/// The key is named in a comment, in another table and in a value before it is set wrongly.
#[test]
fn the_line_of_a_mistake_is_the_line_of_its_key() {
    let file = "# workers: a note\n[kafka]\ngroup_id = \"workers\"\n[ingest]\nworkers = \"two\"\n";
    let message = error(file, &[]);
    assert!(message.contains(":5: `ingest.workers`"), "{message}");
    // Of a value that is text but not understood as well.
    let file = "# latency\n[up]\nlatency = \"1s\"\n[ingest]\nlatency = \"soon\"\n";
    let message = error(file, &[]);
    assert!(message.contains(":5: `soon` is no duration"), "{message}");
    // Inline tables and dotted keys have their places too.
    let message = error("broker.tls = { key = \"k\",\n  cert = \"c\" }\n", &[]);
    assert!(message.contains(":2: unknown setting `broker.tls.cert`"), "{message}");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let file = "[ingest]\nworkers = -1\nlatency = \"soon\"\nlatancy = \"1s\"\n[simulator]\nrate = true\n[http]\nlisten = 9090\n\
                [broker]\npartitions = 99999999999\nlisten = \"here\"\n[lake]\npath = [1]\n[query]\nmemory_bytes_max = 0x10\n";
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file).unwrap();
    let environment = [("SMARTCITY_UP_LATENCY", "later"), ("SMARTCITY_INGEST_WORKRES", "1")];
    let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let flags = vec![("up.pace", "fast".to_owned())];
    let error = Config::load(Some(path.path()), environment.into_iter(), &flags).unwrap_err();
    let error = error.to_string().replace(&path.path().display().to_string(), "FILE");
    insta::assert_snapshot!(error, @r"
    11 settings are wrong
      FILE:2: `ingest.workers` is out of range: -1
      FILE:3: `soon` is no duration; write it as 500ms, 10s or 5min, in `ingest.latency`
      FILE:4: unknown setting `ingest.latancy`; did you mean `ingest.latency`?
      FILE:6: `simulator.rate` must be a number, not true
      FILE:8: `http.listen` must be a string, not 9090
      FILE:10: `broker.partitions` is out of range: 99999999999
      FILE:11: `here` is no address; write host:port, or [address]:port for IPv6, in `broker.listen`
      FILE:13: `lake.path` must be a string, not an array
      environment variable SMARTCITY_UP_LATENCY: `later` is no duration; write it as 500ms, 10s or 5min, in `up.latency`
      environment variable SMARTCITY_INGEST_WORKRES is no setting; did you mean `SMARTCITY_INGEST_WORKERS`?
      `fast` is no pace; write max, a duration per step (5s) or a speed-up (60x), in `up.pace`
    ");
}

#[test]
fn a_variable_that_is_like_no_setting_is_ignored_with_a_warning() {
    let environment = ["SMARTCITY_BIN", "SMARTCITY_HOME"].map(|name| (name.to_owned(), "x".to_owned()));
    let layers = Layers::read(None, environment.into_iter(), &Vec::new());
    assert_eq!(
        layers.warnings(),
        [
            "environment variable SMARTCITY_BIN is no setting and is ignored",
            "environment variable SMARTCITY_HOME is no setting and is ignored"
        ]
    );
    assert!(load("", &[("SMARTCITY_BIN", "x")], &Vec::new()).is_ok());
}

#[test]
fn migrated_topics_are_pairs() {
    let load = |text: &str| load(&format!("[ingest]\nmigrated_topics = \"{text}\"\n"), &[], &Vec::new());
    let pairs = |text| load(text).unwrap().ingest.migrated_topics;
    assert!(pairs("").is_empty());
    let two = [("a.b", "x-1"), ("c", "y")].map(|(topic, id)| (topic.to_owned(), id.to_owned()));
    assert_eq!(pairs("a.b = x-1,c=y"), two.into());
    let told = load("a.b=x,c").unwrap_err().to_string();
    assert!(
        told.contains("`c` is no pair; write topic=id, in `ingest.migrated_topics`"),
        "{told}"
    );
}

#[test]
fn all_of_a_files_syntax_errors_are_reported() {
    let file = "[ingest\nlatency = \"1s\"\n[up]\nlatency = 1s\n";
    let error = load(file, &[], &Vec::new()).unwrap_err().to_string();
    assert!(error.contains(":1: ") && error.contains(":4: "), "{error}");
}

#[test]
fn secrets_are_neither_shown_nor_named_in_a_mistake() {
    let file = "[kafka.properties]\n\"sasl.password\" = 12345\n";
    let message = error(file, &[]);
    assert!(
        message.contains(":2: `kafka.properties.sasl.password` must be a string") && !message.contains("12345"),
        "{message}"
    );
    let file =
        "[kafka.properties]\n\"sasl.password\" = \"hunter2\"\n\"client.rack\" = \"a\"\n[topics]\ngps_data = \"g\"\n";
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file).unwrap();
    let shown = show(Some(path.path())).unwrap();
    assert!(
        !shown.contains("hunter2") && shown.contains("***") && shown.contains("client.rack"),
        "{shown}"
    );
    // It is a file of settings itself.
    let shown: toml::Table = shown.parse().unwrap();
    assert_eq!(shown["topics"]["gps_data"].as_str(), Some("g"));
    assert_eq!(shown["broker"]["tls"]["client_auth"].as_str(), Some("none"));
}

#[test]
fn a_file_with_secrets_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let path = tempfile::NamedTempFile::new().unwrap();
    let with = |text: &str, mode: u32| {
        std::fs::write(path.path(), text).unwrap();
        std::fs::set_permissions(path.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        Config::load(Some(path.path()), std::iter::empty(), &Vec::new()).map(drop)
    };
    let secret = "[kafka.properties]\n\"client.rack\" = \"a\"\n\"sasl.password\" = \"hunter2\"\n";
    assert!(with(secret, 0o600).is_ok());
    for mode in [0o644, 0o604, 0o660, 0o622] {
        let error = with(secret, mode).unwrap_err().to_string();
        let says = format!(
            ":3: the file holds `kafka.properties.sasl.password` and is open to others (mode {mode:o}); chmod 600"
        );
        assert!(error.contains(&says) && !error.contains("hunter2"), "{error}");
    }
    // What says nothing secret may be read by everyone.
    assert!(with("[kafka.properties]\n\"client.rack\" = \"a\"\n", 0o644).is_ok());
}

#[test]
fn a_lake_is_one_place_or_a_mistake() {
    let lake = |path: &str| load(&format!("[lake]\npath = '{path}'\n"), &[], &Vec::new());
    assert_eq!(lake("a%20b").unwrap().lake.path.as_str(), "a%20b");
    let error = lake("s3://bucket/a#b").unwrap_err().to_string();
    assert!(error.contains(":2: cannot use `s3://bucket/a#b` as a lake"), "{error}");
    let error = load("[lake]\ndurability = \"always\"\n", &[], &Vec::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(":2: `always` is not a durability; write fsync or os"),
        "{error}"
    );
}
