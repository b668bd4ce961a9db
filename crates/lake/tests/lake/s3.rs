//! A lake on S3: a real server, its death, its refusals, and a network that lies.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lake::{CommitOutcome, Lake, LakeError, Names, Root, Table};
use model::{ManualClock, Span};
use parking_lot::Mutex;

use crate::readers::python;
use crate::rows::{NOON_US, assert_whole, land, offsets, partition, stage, vehicle_data};
use crate::s3_server::{S3Server, Spoil, open_lake, proxy, variables};

fn is_commit(method: &str, path: &str) -> bool {
    method == "PUT" && path.contains("_delta_log/") && path.ends_with(".json")
}

/// As ingest's committer does: the same files and spans until it is settled.
async fn commit_until_settled(table: &Table, number: i32, span: Span) -> CommitOutcome {
    let files = loop {
        match try_stage(table, number, span).await {
            Ok(files) => break files,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    };
    loop {
        match table.commit(vec![files.clone()], &[(partition(number), span)]).await {
            Ok(outcome) => return outcome,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn try_stage(table: &Table, number: i32, span: Span) -> Result<lake::StagedFiles, LakeError> {
    let mut writer = table.file_writer();
    writer.write(&crate::rows::batch(&vehicle_data(), number, span, NOON_US, 1_000_000))?;
    table.upload(writer.finish()?).await
}

/// Lands `[0, to)` in steps; a fence by ourselves would be a mistake.
async fn land_all(table: &Table, number: i32, to: i64, step: i64) {
    for from in (0..to).step_by(step as usize) {
        let outcome = commit_until_settled(table, number, Span::new(from, from + step)).await;
        let settled = matches!(
            outcome,
            CommitOutcome::Committed { .. } | CommitOutcome::AlreadyLanded { ours: true, .. }
        );
        assert!(settled, "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_land_and_others_read_them() {
    let Some(server) = S3Server::start(&[]) else { return };
    let lake = server.open(1).await;
    assert_eq!(lake.location(), "s3://city/lake/");
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    land_all(&table, 0, 130, 1).await;
    assert_whole(&lake, &[(0, 130)]).await;
    // Beside it the table of its commits, once the first checkpoint is on its way.
    let mut names = lake.table_names().await.unwrap();
    names.retain(|name| name != "commits");
    assert_eq!(names, ["vehicle_data"]);
    let probes = server.file("lake/_probe");
    assert!(!probes.exists() || std::fs::read_dir(probes).unwrap().next().is_none());

    // From a checkpoint, which is written beside the commits.
    let checkpoint = server.file("lake/data/vehicle_data/_delta_log/00000000000000000100.checkpoint.parquet");
    for _ in 0..100 {
        if checkpoint.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(checkpoint.exists());
    let again = server.open(2).await;
    let table = again.table(&vehicle_data(), "ingest").await.unwrap();
    assert_eq!(table.recorded(&partition(0)), Some(130));

    let root = Root::open("s3a://city/lake", variables(&server.endpoint(), &[])).unwrap();
    assert_eq!(root.table_names().await.unwrap(), ["commits", "vehicle_data"]);

    let Some(python) = python() else { return };
    let script = "import deltalake, sys
t = deltalake.DeltaTable(sys.argv[1])
rows = deltalake.QueryBuilder().register('t', t).execute('select count(*) n, sum(_offset) s from t').read_all()
import polars
print(t.version(), *polars.DataFrame(rows).row(0))";
    let output = Command::new(python)
        .args(["-c", script, "s3://city/lake/data/vehicle_data"])
        .envs(variables(&server.endpoint(), &[]))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(printed, format!("130 130 {}", (0..130).sum::<i64>()), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_race_lose_nothing_and_double_nothing() {
    let Some(server) = S3Server::start(&[]) else { return };
    const WRITERS: i32 = 4;
    const COMMITS: i64 = 15;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let endpoint = server.endpoint();
        writers.spawn(async move {
            // As if it were another process: a client, a handle and names of its own.
            let lake = open_lake(&endpoint, 100 + number as u64, &[]).await.unwrap();
            let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
            for commit in 0..COMMITS {
                let own = Span::new(commit * 5, commit * 5 + 5);
                let outcome = commit_until_settled(&table, number, own).await;
                assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
                // All want this one; whoever comes late is told.
                let shared = Span::new(commit * 7, commit * 7 + 7);
                commit_until_settled(&table, WRITERS, shared).await;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let lake = server.open(2).await;
    let wanted: Vec<_> = (0..WRITERS).map(|number| (number, COMMITS * 5)).collect();
    assert_whole(&lake, &wanted).await;
    let shared = offsets(&lake).await.remove(&WRITERS).unwrap();
    assert_eq!(shared, (0..shared.len() as i64).collect::<Vec<_>>());
    assert!(!shared.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_and_comes_back_costs_time_alone() {
    let Some(mut server) = S3Server::start(&[]) else { return };
    let lake = open_lake(&server.endpoint(), 1, &[("AWS_CONNECT_TIMEOUT", "1s")])
        .await
        .unwrap();
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    let writer = tokio::spawn({
        let table = table.clone();
        async move { land_all(&table, 0, 400, 4).await }
    });
    for _ in 0..3 {
        let before = table.version();
        while table.version() < before + 5 && !writer.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.resume();
    }
    writer.await.unwrap();
    assert_whole(&server.open(2).await, &[(0, 400)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_lies_is_seen_through() {
    let Some(server) = S3Server::start(&[]) else { return };
    const SPOILS: [Spoil; 9] = [
        Spoil::Answer(503),
        Spoil::DoneThenAnswer(500),
        Spoil::Answer(409),
        Spoil::DoneThenReset,
        Spoil::Reset,
        Spoil::DoneThenAnswer(503),
        // What a client below us that retried would have made of its own success.
        Spoil::DoneThenAnswer(412),
        Spoil::DoneThenStall,
        Spoil::Answer(429),
    ];
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let mut commits = 0_usize;
    let mut others = 0_usize;
    let judge = move |method: &str, path: &str| {
        if is_commit(method, path) {
            commits += 1;
            // Every other commit, each kind in turn.
            let spoil = commits
                .is_multiple_of(2)
                .then_some(SPOILS[commits / 2 % SPOILS.len()])?;
            log.lock().push(spoil);
            return Some(spoil);
        }
        others += 1;
        others.is_multiple_of(7).then_some(match others / 7 % 3 {
            0 => Spoil::Answer(503),
            1 => Spoil::Reset,
            _ => Spoil::DoneThenAnswer(500),
        })
    };
    let endpoint = proxy(server.address(), Box::new(judge)).await;
    let lake = open_lake(&endpoint, 1, &[("AWS_TIMEOUT", "300ms")]).await.unwrap();
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    land_all(&table, 0, 120, 4).await;
    let seen = seen.lock().clone();
    for spoil in SPOILS {
        assert!(seen.contains(&spoil), "{spoil:?} never came: {seen:?}");
    }
    assert_whole(&server.open(2).await, &[(0, 120)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused() {
    let Some(server) = S3Server::start(&["--nometa"]) else {
        return;
    };
    let error = open_lake(&server.endpoint(), 1, &[]).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, LakeError::Location { .. }), "{error:?}");
    assert!(error.to_string().contains("ignores `If-None-Match: *`"), "{error}");
    // Nor where someone turned conditions off.
    let Some(server) = S3Server::start(&[]) else { return };
    let off = [("AWS_CONDITIONAL_PUT", "disabled")];
    let error = open_lake(&server.endpoint(), 1, &off).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, LakeError::Refused { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_what_and_where() {
    let Some(server) = S3Server::start(&[]) else { return };
    server.add_account("guest", "guestguest");
    let told = |error: LakeError| {
        assert!(matches!(error, LakeError::Denied { .. }), "{error:?}");
        assert!(!error.is_retryable());
        let cause = std::error::Error::source(&error).unwrap().to_string();
        (cause, error.hint().unwrap())
    };
    let try_open = async |more: &[(&str, &str)]| {
        let opened = open_lake(&server.endpoint(), 1, more).await;
        told(opened.map(|_| ()).unwrap_err())
    };
    let guest = [("AWS_ACCESS_KEY_ID", "guest"), ("AWS_SECRET_ACCESS_KEY", "guestguest")];
    let (cause, _) = try_open(&guest).await;
    assert!(
        cause.starts_with("s3:PutObject on arn:aws:s3:::city/lake/_probe/") && cause.contains("403 AccessDenied"),
        "{cause}"
    );
    let (cause, hint) = try_open(&[("AWS_ACCESS_KEY_ID", "nobody")]).await;
    assert!(cause.contains("403 InvalidAccessKeyId"), "{cause}");
    assert!(hint.contains("AWS_ACCESS_KEY_ID"), "{hint}");
    let (cause, hint) = try_open(&[("AWS_SECRET_ACCESS_KEY", "guess")]).await;
    assert!(cause.contains("403 SignatureDoesNotMatch"), "{cause}");
    assert!(hint.contains("AWS_SECRET_ACCESS_KEY"), "{hint}");

    // A reader hears of it from the listing, whose status object_store drops.
    let root = Root::open("s3://city/lake", variables(&server.endpoint(), &guest)).unwrap();
    let (cause, _) = told(root.table_names().await.unwrap_err());
    assert!(
        cause.starts_with("s3:ListBucket on arn:aws:s3:::city: HTTP 403 AccessDenied"),
        "{cause}"
    );

    // Rights that are taken away while it runs.
    let judge = |method: &str, path: &str| is_commit(method, path).then_some(Spoil::Answer(403));
    let lake = server.open(1).await;
    lake.table(&vehicle_data(), "ingest").await.unwrap();
    let endpoint = proxy(server.address(), Box::new(judge)).await;
    let lake = open_lake(&endpoint, 2, &[]).await.unwrap();
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    let (cause, _) = told(land(&table, 0, Span::new(0, 3)).await.unwrap_err());
    assert_eq!(
        cause,
        "s3:PutObject on arn:aws:s3:::city/lake/data/vehicle_data/_delta_log/00000000000000000001.json: HTTP 403 \
         AccessDenied (by the proxy)"
    );

    // A session given as fixed keys, which nothing can refresh.
    let judge = |method: &str, path: &str| is_commit(method, path).then_some(Spoil::Answer(400));
    let endpoint = proxy(server.address(), Box::new(judge)).await;
    let lake = open_lake(&endpoint, 3, &[]).await.unwrap();
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    let (cause, hint) = told(land(&table, 0, Span::new(0, 3)).await.unwrap_err());
    assert!(cause.contains("400 ExpiredToken"), "{cause}");
    assert!(hint.contains("have expired"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_told_so() {
    let Some(server) = S3Server::start(&[]) else { return };
    let clock = Arc::new(ManualClock::new(NOON_US));
    let variables = variables(&server.endpoint(), &[]);
    let opened = Lake::open_with("s3://town/lake", variables, clock, Names::seeded(1)).await;
    let error = opened.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("there is no such bucket"), "{error}");

    // Its disappearance is no empty table either.
    let lake = server.open(1).await;
    let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
    let staged = stage(&table, 0, Span::new(0, 3)).await;
    std::fs::rename(server.file(""), server.file("").with_file_name("gone")).unwrap();
    let spans = [(partition(0), Span::new(0, 3))];
    let error = table.commit(vec![staged], &spans).await.unwrap_err();
    assert!(error.to_string().contains("there is no such bucket"), "{error}");
    assert!(!error.is_retryable());
}

/// Temporary credentials, as the roles of containers and instances hand them out, expire.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_refreshed_when_they_expire() {
    let Some(server) = S3Server::start(&[]) else { return };
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "token").unwrap();
    let asked = Arc::new(Mutex::new(0));
    let roles = credentials_server(Arc::clone(&asked)).await;
    let (keys, token) = (format!("{roles}/keys"), token.path().to_str().unwrap());
    let ways: [&[(&str, &str)]; 2] = [
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &keys),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token),
        ],
        &[("AWS_METADATA_ENDPOINT", &roles)],
    ];
    for (number, more) in ways.into_iter().enumerate() {
        let variables: Vec<_> = variables(&server.endpoint(), more)
            .into_iter()
            .filter(|(name, _)| !name.contains("ACCESS_KEY"))
            .collect();
        let clock = Arc::new(ManualClock::new(NOON_US));
        let lake = Lake::open_with("s3://city/lake", variables, clock, Names::seeded(number as u64))
            .await
            .unwrap();
        let table = lake.table(&vehicle_data(), "ingest").await.unwrap();
        *asked.lock() = 0;
        land_all(&table, number as i32, 12, 4).await;
        let count = *asked.lock();
        assert!(
            count > 3,
            "{more:?}: credentials that had expired were used again: asked {count} times"
        );
    }
    assert_whole(&server.open(9).await, &[(0, 12), (1, 12)]).await;
}

/// Hands out keys that have expired already, so that each request needs new ones: to a container, or by instance metadata
/// (IMDSv2).
async fn credentials_server(asked: Arc<Mutex<u32>>) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = Vec::new();
            client.read_buf(&mut request).await.unwrap();
            let request = String::from_utf8(request).unwrap();
            let body = match request.split(' ').nth(1).unwrap_or_default() {
                "/latest/api/token" => "session",
                "/latest/meta-data/iam/security-credentials/" => "role",
                "/keys" | "/latest/meta-data/iam/security-credentials/role" => {
                    *asked.lock() += 1;
                    r#"{"AccessKeyId":"test","SecretAccessKey":"testtest","Token":"","Expiration":"2020-01-01T00:00:00Z"}"#
                }
                other => panic!("{other}"),
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            client.write_all(answer.as_bytes()).await.ok();
        }
    });
    format!("http://{address}")
}
