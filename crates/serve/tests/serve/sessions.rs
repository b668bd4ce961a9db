//! Sessions as a protocol server uses them: prepared statements, cancelling, timeouts.

use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::DataType;
use futures::StreamExt;
use serve::sql::{ErrorKind, QueryResult, ScalarValue, SessionSettings, TimeTravel};
use tokio::runtime::Handle;

use crate::lake::{TestLake, vehicles};

/// Takes for ever, in several tasks.
const ENDLESS: &str = "select count(*) from generate_series(1, 1000000000000) where value % 7 = 3";

async fn number(result: QueryResult) -> i64 {
    let batches = result.collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// Until all tasks but those of the test have ended.
async fn nothing_runs(tasks_before: usize) {
    let began = Instant::now();
    while Handle::current().metrics().num_alive_tasks() > tasks_before {
        assert!(began.elapsed() < Duration::from_secs(60), "tasks go on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_prepared_statement_has_types_and_sees_later_commits() {
    let lake = TestLake::filled().await;
    let session = lake.engine().await.session(SessionSettings::default());
    let sql = "select count(*) as n from vehicle_data where id < $1 and device_id = $2";
    let prepared = session.prepare(sql).await.unwrap();
    assert_eq!(prepared.parameters(), [Some(DataType::Int64), Some(DataType::Utf8View)]);
    let schema = prepared.schema();
    assert_eq!(
        (schema.field(0).name().as_str(), schema.field(0).data_type()),
        ("n", &DataType::Int64)
    );
    let values = || vec![ScalarValue::from(100_i64), ScalarValue::from("Vehicle-Adam0731")];
    assert_eq!(number(prepared.execute(values()).await.unwrap()).await, 3);
    lake.append("vehicle_data", vehicles(3)).await;
    assert_eq!(number(prepared.execute(values()).await.unwrap()).await, 4);
    // A text does where a number is asked for.
    let texts = vec![ScalarValue::from("2"), ScalarValue::from("Vehicle-Adam0731")];
    assert_eq!(number(prepared.execute(texts).await.unwrap()).await, 1);

    let open = session.prepare("select $1").await.unwrap();
    assert_eq!(open.parameters(), [None]);
    assert_eq!(
        number(open.execute(vec![ScalarValue::from(7_i64)]).await.unwrap()).await,
        7
    );
}

#[tokio::test]
async fn a_prepared_statement_refuses_what_does_not_fit() {
    let lake = TestLake::filled().await;
    let session = lake.engine().await.session(SessionSettings::default());
    let prepared = session
        .prepare("select * from vehicle_data where id = $1")
        .await
        .unwrap();
    let error = prepared.execute(Vec::new()).await.err().unwrap();
    assert_eq!(
        (error.kind, error.to_string().as_str()),
        (
            ErrorKind::Usage,
            "the statement has 1 parameters, and 0 values were given"
        )
    );
    let error = session.query("select $1").await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Usage, "{error}");
    let error = session.prepare("select $name").await.err().unwrap();
    assert!(error.to_string().contains("parameters are numbered"), "{error}");
    let error = session.prepare("drop table vehicle_data").await.err().unwrap();
    assert!(error.to_string().starts_with("DROP TABLE is refused"), "{error}");

    let table = lake.table("vehicle_data");
    let wider = crate::lake::letters();
    table.commit(&crate::lake::TestTable::created(&wider.schema(), &[])[1..]);
    let error = prepared.execute(vec![ScalarValue::from(1_i64)]).await.err().unwrap();
    assert!(error.to_string().contains("column 'id' not found"), "{error}");
    let all = session.prepare("select * from vehicle_data").await.unwrap();
    table.commit(&crate::lake::TestTable::created(&vehicles(0).schema(), &["event_date"])[1..]);
    let error = all.execute(Vec::new()).await.err().unwrap();
    assert!(
        error.to_string().contains("other columns than when it was prepared"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_query_ends_and_stops_working() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let session = engine.session(SessionSettings::default());
    let tasks = Handle::current().metrics().num_alive_tasks();
    for at_once in [true, false] {
        let mut result = session.query(ENDLESS).await.unwrap();
        let cancel = session.cancel_handle();
        if at_once {
            cancel.cancel();
        } else {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                cancel.cancel();
            });
        }
        let error = result.next().await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind, error.to_string().as_str()),
            (ErrorKind::Cancelled, "the query was cancelled")
        );
        assert!(result.next().await.is_none());
        nothing_runs(tasks).await;
        assert_eq!(engine.memory_reserved(), 0);
    }
    // What starts later is not affected, nor is another session.
    session.cancel_handle().cancel();
    assert_eq!(
        number(session.query("select count(*) from vehicle_data").await.unwrap()).await,
        6
    );
    let other = engine.session(SessionSettings::default());
    let result = other.query("select count(*) from vehicle_data").await.unwrap();
    session.cancel_handle().cancel();
    assert_eq!(number(result).await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_query_stops_working() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let mut result = engine.query(ENDLESS).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(200), result.next())
            .await
            .is_err()
    );
    drop(result);
    nothing_runs(tasks).await;
    assert_eq!(engine.memory_reserved(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_timeout_counts_planning_and_running() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    let session = |timeout| {
        engine.session(SessionSettings {
            statement_timeout: Some(timeout),
            ..SessionSettings::default()
        })
    };
    let began = Instant::now();
    // The planner works long on a statement like this.
    let deep = format!("select {}id from vehicle_data", "id + ".repeat(400));
    let error = session(Duration::from_millis(1)).query(&deep).await.err().unwrap();
    let text = "the query took longer than the statement timeout of 1 ms";
    assert_eq!((error.kind, error.to_string().as_str()), (ErrorKind::Cancelled, text));
    assert!(began.elapsed() < Duration::from_secs(30));

    let result = session(Duration::from_millis(1500)).query(ENDLESS).await;
    let error = match result {
        Ok(result) => result.collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind, ErrorKind::Cancelled, "{error}");
    let unlimited = session(Duration::MAX)
        .query("select count(*) from vehicle_data")
        .await
        .unwrap();
    assert_eq!(number(unlimited).await, 6);
}

#[tokio::test]
async fn sessions_of_one_engine_travel_apart() {
    let lake = TestLake::filled().await;
    let engine = lake.engine().await;
    for version in 0..3 {
        let session = engine.session(SessionSettings {
            time_travel: TimeTravel::Version(version),
            ..SessionSettings::default()
        });
        let result = session.query("select count(*) from vehicle_data").await.unwrap();
        assert_eq!(number(result).await, 2 * (version + 1));
    }
    assert_eq!(
        number(engine.query("select count(*) from vehicle_data").await.unwrap()).await,
        6
    );
}
