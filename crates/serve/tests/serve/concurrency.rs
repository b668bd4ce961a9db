//! Many statements beside commits: each sees one version of each table, wherever it names it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use lake::delta::arrow::from_arrow;
use serde_json::json;
use serve::sql::Engine;

use crate::lake::{TestLake, TestTable, metadata};

const QUERIES: usize = 200;
/// Each adds a file that the queries after it read.
const COMMITS_MAX: i64 = 16;
/// Rows that each commit adds to `a` and to `b`.
const ROWS_A: i64 = 3;
const ROWS_B: i64 = 5;

/// Version `v` of table `grows` has `v + 1` rows and as many columns.
fn growing(version: i64) -> RecordBatch {
    let columns = (0..=version).map(|column| {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![version]));
        (format!("c{column}"), values, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn commit(lake: &TestLake, version: i64) {
    for (name, rows) in [("a", ROWS_A), ("b", ROWS_B)] {
        let table = lake.table(name);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![version; rows as usize]));
        let batch = RecordBatch::try_from_iter_with_nullable([("version", values, true)]).unwrap();
        let mut actions = vec![table.write_file(&batch)];
        if version == 0 {
            actions.extend(TestTable::created(&batch.schema(), &[]));
        }
        table.commit(&actions);
    }
    let table = lake.table("grows");
    let batch = growing(version);
    let fields: Vec<Field> = (0..=version)
        .map(|column| Field::new(format!("c{column}"), DataType::Int64, true))
        .collect();
    let schema = serde_json::to_string(&from_arrow(&Schema::new(fields)).unwrap()).unwrap();
    let mut actions = vec![metadata(&schema, &[], json!({})), table.write_file(&batch)];
    if version == 0 {
        actions.push(json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}));
    }
    table.commit(&actions);
}

async fn numbers(engine: &Engine, sql: &str) -> Vec<i64> {
    let batches = engine.query(sql).await.unwrap().collect().await.unwrap();
    let columns = batches[0].columns().iter();
    columns
        .map(|column| column.as_primitive::<Int64Type>().value(0))
        .collect()
}

/// One of the queries, and what must hold of its result whatever the versions were.
async fn check(engine: &Engine, query: usize) -> i64 {
    match query % 6 {
        0 => {
            let sql = "select (select count(*) from a) as n1, (select count(*) from public.a) as n2, \
                       (select count(*) from smartcity.public.a) as n3, (select max(version) from a) as v";
            let found = numbers(engine, sql).await;
            assert_eq!(found[..3], [(found[3] + 1) * ROWS_A; 3], "{found:?}");
            found[3]
        }
        1 => {
            // Each row meets the rows of its version: any other version of either side would change the count.
            let sql =
                "select count(*), max(x.version), max(y.version) from b x join public.b y on x.version = y.version";
            let found = numbers(engine, sql).await;
            assert_eq!(found[1], found[2], "{found:?}");
            assert_eq!(found[0], (found[1] + 1) * ROWS_B * ROWS_B, "{found:?}");
            found[1]
        }
        2 | 5 => {
            let sql = "select (select count(*) from information_schema.columns where table_name = 'grows') as a, \
                       (select count(*) from grows) as b, \
                       (select count(distinct column_name) from information_schema.columns where table_name = 'grows') as c";
            let found = numbers(engine, sql).await;
            assert_eq!(found, [found[0]; 3]);
            found[0] - 1
        }
        3 => {
            let sql = "with a2 as (select * from a), both_ as (select version from a2 union all select version from a) \
                       select count(*), max(version) from both_";
            let found = numbers(engine, sql).await;
            assert_eq!(found[0], (found[1] + 1) * 2 * ROWS_A, "{found:?}");
            found[1]
        }
        _ => {
            let sql = "select count(*), count(distinct version), max(version) + 1 from b \
                       where version in (select version from b)";
            let found = numbers(engine, sql).await;
            assert_eq!(found, [found[2] * ROWS_B, found[2], found[2]]);
            found[2] - 1
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_sees_one_version_of_each_table() {
    let lake = Arc::new(TestLake::new());
    commit(&lake, 0);
    let engine = lake.engine().await;
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (lake, done) = (Arc::clone(&lake), Arc::clone(&done));
        move || {
            let mut version = 0;
            while !done.load(Ordering::Relaxed) && version < COMMITS_MAX {
                version += 1;
                commit(&lake, version);
                std::thread::sleep(Duration::from_millis(200));
            }
            version
        }
    });
    let began = std::time::Instant::now();
    let running: Vec<_> = (0..QUERIES)
        .map(|query| {
            let engine = engine.clone();
            tokio::spawn(async move { check(&engine, query).await })
        })
        .collect();
    let mut versions = Vec::new();
    for query in running {
        versions.push(query.await.unwrap());
    }
    done.store(true, Ordering::Relaxed);
    let newest = tokio::task::spawn_blocking(move || writer.join())
        .await
        .unwrap()
        .unwrap();
    versions.sort_unstable();
    versions.dedup();
    println!(
        "{QUERIES} queries in {:.1} s beside {newest} commits; {} versions seen",
        began.elapsed().as_secs_f64(),
        versions.len()
    );
    assert!(versions.len() > 1, "no commit came between the queries");
    assert!(versions.iter().all(|version| (0..=newest).contains(version)));
}
