//! A real Spark with Delta Lake, for the tests that need another engine's reading and writing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

/// One session; it ends with this value.
pub(crate) struct Spark {
    child: Child,
    statements: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Its files, and its log.
    folder: tempfile::TempDir,
}

fn real_spark() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/spark/real-spark")
}

/// The session that the tests of a binary share; it ends with the process, which closes its standard input.
static SHARED: OnceLock<Option<Mutex<Spark>>> = OnceLock::new();

impl Spark {
    /// Spark 4.0 for tests that set what they need of it; `None` as [`Spark::start`] says.
    pub(crate) async fn shared() -> Option<MutexGuard<'static, Spark>> {
        let shared = SHARED.get_or_init(|| Spark::start("4.0").map(Mutex::new)).as_ref();
        Some(shared?.lock().await)
    }

    /// Starts it; `None` after saying so where its jars were not fetched. Where CI runs, 4.0 must be there.
    pub(crate) fn start(version: &str) -> Option<Spark> {
        let cache = std::env::var_os("SMARTCITY_CACHE").map_or_else(
            || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/smartcity"),
            PathBuf::from,
        );
        let jars = cache.join(format!("spark-{version}/complete"));
        if !jars.exists() {
            crate::skip::skip(&format!(
                "Spark {version} (tests/spark/real-spark {version} --jars fetches it)"
            ));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(real_spark())
            .arg(version)
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (statements, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut spark = Spark {
            child,
            statements,
            answers: BufReader::new(answers),
            folder,
        };
        let ready = spark.answer();
        assert!(ready.starts_with(&format!("ready {version}.")), "{ready}");
        Some(spark)
    }

    /// The rows that a statement gives, or its error.
    pub(crate) fn try_sql(&mut self, statement: &str) -> Result<Vec<Value>, String> {
        let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(self.statements, "{line}").unwrap();
        let answer = self.answer();
        match answer.split_once(' ') {
            Some(("ok", rows)) => Ok(serde_json::from_str(rows).unwrap()),
            _ => Err(answer),
        }
    }

    pub(crate) fn sql(&mut self, statement: &str) -> Vec<Value> {
        self.try_sql(statement)
            .unwrap_or_else(|error| panic!("{statement}\n{error}"))
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        if self.answers.read_line(&mut line).unwrap() == 0 {
            let log = std::fs::read_to_string(self.folder.path().join("spark.log")).unwrap_or_default();
            let tail = log.lines().rev().take(20).collect::<Vec<_>>();
            panic!("Spark ended: {}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        line.trim_end().to_owned()
    }
}

impl Drop for Spark {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
