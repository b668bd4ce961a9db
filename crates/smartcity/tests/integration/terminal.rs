//! What people see: results that fit a terminal, a word where there is nothing, and a quiet end where nobody reads on.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use crate::places::Neat;
use crate::support::{run, skip, smartcity};

/// Runs with a stdout that nobody reads, and a stderr that nobody reads either where `both`.
fn unread(command: &mut Command, both: bool) -> Output {
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    command.stdin(Stdio::null()).stdout(closed()).stderr(Stdio::piped());
    if both {
        command.stderr(closed());
    }
    command.spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn a_reader_that_has_gone_ends_every_command_quietly() {
    let neat = Neat::new();
    neat.produce(30, 2);
    let lake = neat.dir.path().join("lake");
    let lake = lake.to_str().unwrap();
    neat.ingest(lake);
    let mut commands: Vec<&mut Command> = [
        &["status"][..],
        &["status", "--json"],
        &["query", "select * from neat"],
        &["query", "select * from neat", "--format", "line"],
        &["query", "select * from neat", "--format", "markdown"],
        &["query", "select * from neat", "--format", "csv"],
        &["query", "select * from neat", "--format", "json"],
        &["query", "select * from neat", "--format", "parquet"],
        &["dlq", "list"],
        &["dlq", "list", "--json"],
        &["dlq", "show"],
        &["dlq", "show", "--json"],
        &["dlq", "replay", "--dry-run"],
        &["lake", "verify"],
        &["lake", "verify", "--json"],
        &["lake", "history"],
        &["lake", "history", "--json"],
        &["lake", "backfill", "--dry-run"],
        &[
            "ingest",
            "--until-caught-up",
            "--json",
            "--bootstrap-servers",
            &neat.address,
        ],
    ]
    .map(|arguments| neat.command(arguments, lake))
    .into();
    let mut others = [
        &["config", "show"][..],
        &["config", "show", "--default"],
        &["--help"],
        &["query", "--help"],
        &["--version"],
        &["simulate", "--print", "--profile", "classic", "--pace", "max"],
    ]
    .map(|arguments| {
        let mut command = smartcity();
        command.args(arguments);
        command
    });
    commands.extend(others.iter_mut());
    for command in commands {
        for both in [false, true] {
            let output = unread(command, both);
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{command:?}: {error}");
            assert!(
                !error.contains("error") && !error.contains("panic"),
                "{command:?}: {error}"
            );
        }
    }
    // What went wrong is still told by the exit code, where nobody reads the words.
    for (arguments, code) in [
        (&["query", "select * from nothing"][..], 2),
        (&["query", "selct"], 2),
        (&["lake", "history", "--table", "nothing"], 2),
    ] {
        let output = unread(neat.command(arguments, lake), true);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
    let log = neat.dir.path().join("lake/data/neat/_delta_log");
    let commit = std::fs::read_dir(&log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max()
        .unwrap();
    std::fs::write(commit, "{").unwrap();
    let output = unread(neat.command(&["lake", "verify"], lake), false);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_full_disk_under_stdout_is_an_error() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        return skip("/dev/full");
    };
    for arguments in [
        &["config", "show", "--default"][..],
        &["simulate", "--print", "--profile", "classic", "--pace", "max"],
    ] {
        let mut command = smartcity();
        let command = command
            .args(arguments)
            .stdout(full.try_clone().unwrap())
            .stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(
            error.contains("No space left") && !error.contains("panic"),
            "{arguments:?}: {error}"
        );
    }
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let neat = Neat::new();
    neat.produce(3, 0);
    let lake = neat.dir.path().join("lake");
    let lake = lake.to_str().unwrap();
    neat.ingest(lake);
    let printed = |arguments: &[&str]| run(neat.command(arguments, lake));
    // Before there is a table of dead letters, and when it has none that are wanted.
    for round in 0..2 {
        assert_eq!(printed(&["dlq", "list"]), "no dead letters\n", "{round}");
        assert_eq!(printed(&["dlq", "show"]), "no dead letters\n");
        assert_eq!(printed(&["dlq", "replay"]), "no dead letters\n");
        assert_eq!(printed(&["dlq", "show", "--json"]), "");
        assert_eq!(
            printed(&["query", "select id from neat where id < 0"]),
            " id\n----\n(0 rows)\n"
        );
        let line = ["query", "select id from neat where id < 0", "--format", "line"];
        assert_eq!(printed(&line), "(0 rows)\n");
    }
    neat.produce(0, 2);
    neat.ingest(lake);
    let wanted = ["--where", "topic = 'other'"];
    for command in ["list", "show"] {
        let none = printed(&["dlq", command, wanted[0], wanted[1]]);
        assert_eq!(none, "no dead letters with topic = 'other'\n");
    }
    assert!(printed(&["dlq", "show"]).contains("missing_field"));
}

#[test]
fn the_history_names_what_can_be_read_again() {
    let neat = Neat::new();
    let lake = neat.dir.path().join("lake");
    let lake = lake.to_str().unwrap();
    for _ in 0..2 {
        neat.produce(3, 1);
        neat.ingest(lake);
    }
    let printed = run(neat.command(&["lake", "history", "--json"], lake));
    let history: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let versions = history["tables"]["neat"].as_array().unwrap();
    assert_eq!(versions[0]["rows"], 6);
    for version in versions {
        let (number, time) = (
            version["version"].to_string(),
            version["committed_at"].as_str().unwrap(),
        );
        for travel in [["--at-version", &number], ["--as-of", time]] {
            let count = [
                "query",
                "select count(*) as n from neat",
                "--format",
                "csv",
                travel[0],
                travel[1],
            ];
            assert_eq!(
                run(neat.command(&count, lake)),
                format!("n\n{}\n", version["rows"]),
                "{travel:?}"
            );
        }
    }
    let text = run(neat.command(&["lake", "history", "--table", "neat", "--limit", "1"], lake));
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0] == "neat" && lines[2].contains("+3") && lines[3].contains("--limit"),
        "{text}"
    );
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    let output = neat
        .command(&["lake", "history", "--table", "net,neat,two"], lake)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("no table `net`, `two`") && output.status.code() == Some(2),
        "{error}"
    );
}

/// Runs the command on a terminal of so many columns; what it printed, without carriage returns.
fn on_terminal(command: &Command, columns: usize) -> Option<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<String> = words
        .map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''")))
        .collect();
    let line = format!("stty cols {columns} rows 24; exec {}", quoted.join(" "));
    let mut script = Command::new("script");
    let Ok(output) = script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output() else {
        skip("script(1) of util-linux");
        return None;
    };
    Some(String::from_utf8(output.stdout).unwrap().replace('\r', ""))
}

#[test]
fn a_result_fits_the_terminal() {
    let neat = Neat::new();
    neat.produce(600, 1);
    let lake = neat.dir.path().join("lake");
    let lake = lake.to_str().unwrap();
    neat.ingest(lake);
    let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    let query = |sql: &str| neat.command(&["query", sql], lake);
    let text = "select id, at, repeat('long ', 50) as note, _extra from neat";
    for columns in [60, 80, 120] {
        let Some(printed) = on_terminal(query(text), columns) else {
            return;
        };
        assert!(
            widest(&printed) <= columns && printed.contains('…'),
            "{columns}:\n{printed}"
        );
        assert!(printed.contains("(500 of 600 rows, 100 left out)"), "{printed}");
        assert!(printed.contains("hint: --max-rows 0 prints all rows"), "{printed}");
        for command in [["dlq", "list"], ["dlq", "show"]] {
            let printed = on_terminal(neat.command(&command, lake), columns).unwrap();
            assert!(
                widest(&printed) <= columns || printed.contains(" = "),
                "{columns}:\n{printed}"
            );
        }
    }
    // Every column of a wide row is shown, each on its own line.
    let printed = on_terminal(query("select * from neat where id = 7"), 60).unwrap();
    assert!(
        printed.contains(" = 7\n") && printed.contains("_ingested_at = "),
        "{printed}"
    );
    // A pipe has no width and no limit.
    let piped = run(query(text));
    assert!(piped.ends_with("(600 rows)\n"), "{}", widest(&piped));
    let limited = ["query", text, "--max-rows", "2", "--width", "60"];
    let limited = run(neat.command(&limited, lake));
    assert!(
        widest(&limited) <= 60 && limited.ends_with("(2 of 600 rows, 598 left out)\n"),
        "{limited}"
    );
    let refused = neat
        .command(&["query", text, "--format", "csv", "--max-rows", "2"], lake)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("write `limit 2` in the query"), "{error}");
}
