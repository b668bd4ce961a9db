//! The layers laid over each other: a value for each path, and where it comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Result;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use crate::exit::usage;

/// The commented file that `config show --default` prints and every default comes from.
pub(crate) const DEFAULT: &str = include_str!("../default.toml");
/// The user's file, when it is there and no other is named.
const FILE: &str = "smartcity.toml";
/// Tables whose keys are the user's own, and whose values are text.
const FREE_TABLES: [&str; 2] = ["kafka.properties", "topics"];
/// Variables with our prefix that are no settings.
const NOT_SETTINGS: [&str; 3] = ["SMARTCITY_CACHE", "SMARTCITY_CONFIG", "SMARTCITY_PYTHON"];
/// The original's own variables.
const ORIGINAL: [(&str, &str); 6] = [
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka.bootstrap_servers"),
    ("VEHICLE_TOPIC", "topics.vehicle_data"),
    ("GPS_TOPIC", "topics.gps_data"),
    ("TRAFFIC_TOPIC", "topics.traffic_data"),
    ("WEATHER_TOPIC", "topics.weather_data"),
    ("EMERGENCY_TOPIC", "topics.emergency_data"),
];

/// Settings from flags: path and text.
pub(crate) type Flags = Vec<(&'static str, String)>;

/// The settings of all layers, and what is wrong with them.
#[derive(Debug)]
pub(super) struct Layers {
    /// By dotted path; none is a table.
    defaults: BTreeMap<String, Value>,
    settings: BTreeMap<String, Setting>,
    mistakes: Vec<Mistake>,
    /// What was left out, and is no mistake.
    warnings: Vec<String>,
}

#[derive(Debug, Clone)]
struct Setting {
    value: Value,
    source: Source,
}

/// Where a value comes from, in the order of the layers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Default,
    File { name: String, line: usize },
    Variable(String),
    Flag,
}

/// Before what is wrong with it. A flag is before the user's eyes.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default.toml: "),
            Source::File { name, line } => write!(f, "{name}:{line}: "),
            Source::Variable(name) => write!(f, "environment variable {name}: "),
            Source::Flag => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Mistake {
    source: Source,
    message: String,
}

impl Layers {
    pub(super) fn read(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Self {
        let defaults = defaults();
        let default = |(path, value): (&String, &Value)| {
            let setting = Setting {
                value: value.clone(),
                source: Source::Default,
            };
            (path.clone(), setting)
        };
        let mut layers = Self {
            settings: defaults.iter().map(default).collect(),
            defaults,
            mistakes: Vec::new(),
            warnings: Vec::new(),
        };
        let own = Path::new(FILE);
        if let Some(file) = file.or_else(|| own.exists().then_some(own)) {
            layers.lay_file(file);
        }
        layers.lay_environment(environment.collect());
        for (path, text) in flags {
            layers.lay_text(path, text, Source::Flag);
        }
        layers
    }

    /// All mistakes as one error.
    pub(super) fn check(&mut self) -> Result<()> {
        self.mistakes.sort_by(|a, b| a.source.cmp(&b.source));
        let mut lines = self
            .mistakes
            .iter()
            .map(|mistake| format!("{}{}", mistake.source, mistake.message));
        match self.mistakes.len() {
            0 => Ok(()),
            1 => Err(usage(lines.next().unwrap_or_default())),
            many => Err(usage(format!(
                "{many} settings are wrong\n  {}",
                lines.collect::<Vec<_>>().join("\n  ")
            ))),
        }
    }

    /// What is ignored, one line each.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn mistake(&mut self, source: Source, message: impl Into<String>) {
        let message = message.into();
        self.mistakes.push(Mistake { source, message });
    }

    fn lay_file(&mut self, file: &Path) {
        let name = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            // The path is in the message: the place would say it twice.
            Err(error) => return self.mistake(Source::Flag, format!("cannot read {name}: {error}")),
        };
        let place = |at: usize| Source::File {
            name: name.clone(),
            line: line_at(&text, at),
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            self.mistake(place(error.span().map_or(0, |span| span.start)), error.message());
        }
        // What stands behind a broken line may belong elsewhere.
        if errors.is_empty() {
            self.lay_table(table.get_ref(), "", &place);
        }
        self.check_privacy(file, &name);
    }

    /// A file with secrets is for its owner alone, or for root to share with a group, as secrets are mounted.
    fn check_privacy(&mut self, file: &Path, name: &str) {
        let is_of_file = |source: &Source| matches!(source, Source::File { name: of, .. } if of == name);
        let mut secrets = self
            .settings
            .iter()
            .filter(|(path, setting)| is_secret(path) && is_of_file(&setting.source));
        let Some((path, setting)) = secrets.next() else { return };
        let Ok(metadata) = std::fs::metadata(file) else { return };
        let allowed = if metadata.uid() == 0 { 0o740 } else { 0o700 };
        let mode = metadata.mode() & 0o777;
        if mode & !allowed != 0 {
            let message = format!("the file holds `{path}` and is open to others (mode {mode:03o}); chmod 600 {name}");
            let source = setting.source.clone();
            self.mistake(source, message);
        }
    }

    fn lay_table(&mut self, table: &DeTable<'_>, prefix: &str, place: &dyn Fn(usize) -> Source) {
        for (key, value) in table {
            let path = match prefix {
                "" => key.get_ref().to_string(),
                prefix => format!("{prefix}.{}", key.get_ref()),
            };
            let source = place(key.span().start);
            let is_table = self.is_table(&path);
            match value.get_ref() {
                DeValue::Table(inner) if is_table => self.lay_table(inner, &path, place),
                _ if is_table => self.mistake(source, format!("`{path}` is a table")),
                _ => match self.checked(&path, prefix, value) {
                    Ok(value) => self.set(&path, value, source),
                    Err(message) => self.mistake(source, message),
                },
            }
        }
    }

    /// A value of a file as the type that its default has.
    fn checked(&self, path: &str, prefix: &str, value: &Spanned<DeValue<'_>>) -> Result<Value, String> {
        let other = match value.get_ref() {
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
            _ => "a date",
        };
        let value = plain(value.get_ref());
        let expected = match self.defaults.get(path) {
            Some(default) => default,
            None if FREE_TABLES.contains(&prefix) => &Value::String(String::new()),
            None => {
                let paths = self.defaults.keys().map(String::as_str);
                let tables = self.tables();
                let hint = nearest(path, paths.chain(tables.iter().map(String::as_str)));
                return Err(format!("unknown setting `{path}`{hint}"));
            }
        };
        match (expected, value) {
            (Value::Float(_), Some(Value::Integer(whole))) => Ok(Value::Float(whole as f64)),
            (expected, Some(value)) if expected.same_type(&value) => Ok(value),
            (expected, _) if is_secret(path) => Err(format!("`{path}` must be {}", kind(expected))),
            (expected, Some(value)) => Err(format!("`{path}` must be {}, not {value}", kind(expected))),
            (expected, None) => Err(format!("`{path}` must be {}, not {other}", kind(expected))),
        }
    }

    fn lay_environment(&mut self, environment: BTreeMap<String, String>) {
        for (variable, path) in ORIGINAL {
            if let Some(text) = environment.get(variable) {
                self.lay_text(path, text, Source::Variable(variable.to_owned()));
            }
        }
        let paths = self.defaults.keys();
        let variables: BTreeMap<String, String> = paths.map(|path| (variable_of(path), path.clone())).collect();
        for (variable, text) in environment {
            if !variable.starts_with("SMARTCITY_") || NOT_SETTINGS.contains(&variable.as_str()) {
                continue;
            }
            let topic = variable.strip_prefix("SMARTCITY_TOPICS_");
            let topic = topic.map(|stream| format!("topics.{}", stream.to_lowercase()));
            match topic.as_ref().or(variables.get(&variable)) {
                Some(path) => self.lay_text(path, &text, Source::Variable(variable)),
                // The prefix is anyone's to use, so a name that is like none of ours is ignored. One that is like a setting's
                // is misspelt.
                None => match model::nearest(&variable, variables.keys().map(String::as_str)) {
                    Some(nearest) => {
                        let message =
                            format!("environment variable {variable} is no setting; did you mean `{nearest}`?");
                        // The variable is in the message: the place would say it twice.
                        self.mistake(Source::Flag, message);
                    }
                    None => self
                        .warnings
                        .push(format!("environment variable {variable} is no setting and is ignored")),
                },
            }
        }
    }

    /// Sets one path from text, as the type that its default has.
    fn lay_text(&mut self, path: &str, text: &str, source: Source) {
        let wanted = |what: &str| format!("`{path}` must be {what}, not `{text}`");
        let value = match self.defaults.get(path) {
            Some(Value::Integer(_)) => text.parse().map(Value::Integer).map_err(|_| wanted("a whole number")),
            Some(Value::Float(_)) => text.parse().map(Value::Float).map_err(|_| wanted("a number")),
            Some(Value::Boolean(_)) => text.parse().map(Value::Boolean).map_err(|_| wanted("true or false")),
            _ => Ok(Value::String(text.to_owned())),
        };
        match value {
            Ok(value) => self.set(path, value, source),
            Err(message) => self.mistake(source, message),
        }
    }

    fn set(&mut self, path: &str, value: Value, source: Source) {
        self.settings.insert(path.to_owned(), Setting { value, source });
    }

    fn is_table(&self, path: &str) -> bool {
        FREE_TABLES.contains(&path) || self.tables().iter().any(|table| table == path)
    }

    /// The paths of all tables with settings.
    fn tables(&self) -> Vec<String> {
        let mut tables: Vec<String> = FREE_TABLES.map(str::to_owned).to_vec();
        for path in self.defaults.keys() {
            let dots = path.match_indices('.');
            tables.extend(dots.map(|(at, _)| path[..at].to_owned()));
        }
        tables.sort();
        tables.dedup();
        tables
    }

    /// A setting that is text.
    pub(super) fn text(&mut self, path: &str) -> String {
        self.parsed(path, |text| Ok(text.to_owned()))
    }

    /// A setting that is written as text. What is not understood is noted, and the default stands in for it.
    pub(super) fn parsed<T>(&mut self, path: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let read = |value: &Value| match value {
            Value::String(text) => parse(text).map_err(|reason| format!("{reason}, in `{path}`")),
            other => Err(format!("`{path}` must be a string, not {other}")),
        };
        self.read_value(path, read)
    }

    /// The same where empty text means none.
    pub(super) fn optional<T>(&mut self, path: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.parsed(path, |text| match text {
            "" => Ok(None),
            text => parse(text).map(Some),
        })
    }

    pub(super) fn integer<T: TryFrom<i64>>(&mut self, path: &str) -> T {
        self.read_value(path, |value| {
            let number = value.as_integer().and_then(|number| T::try_from(number).ok());
            number.ok_or_else(|| format!("`{path}` is out of range: {value}"))
        })
    }

    pub(super) fn float(&mut self, path: &str) -> f64 {
        self.read_value(path, |value| {
            let number = value.as_float();
            number.ok_or_else(|| format!("`{path}` must be a number, not {value}"))
        })
    }

    pub(super) fn boolean(&mut self, path: &str) -> bool {
        self.read_value(path, |value| {
            let truth = value.as_bool();
            truth.ok_or_else(|| format!("`{path}` must be true or false, not {value}"))
        })
    }

    /// The keys and values of a table whose keys are the user's own.
    pub(super) fn free_table(&self, table: &str) -> BTreeMap<String, String> {
        let prefix = format!("{table}.");
        let inside = self.settings.iter().filter_map(|(path, setting)| {
            let key = path.strip_prefix(&prefix)?;
            Some((key.to_owned(), setting.value.as_str()?.to_owned()))
        });
        inside.collect()
    }

    fn read_value<T>(&mut self, path: &str, read: impl Fn(&Value) -> Result<T, String>) -> T {
        let Some(setting) = self.settings.get(path) else {
            panic!("`{path}` is not in default.toml");
        };
        match read(&setting.value) {
            Ok(value) => value,
            Err(message) => {
                let source = setting.source.clone();
                self.mistake(source, message);
                // A test reads all of them.
                read(&self.defaults[path]).unwrap_or_else(|error| panic!("default.toml: {error}"))
            }
        }
    }

    /// The settings as TOML, without what may be secret.
    pub(super) fn shown(&self) -> String {
        let mut shown = Table::new();
        for table in self.tables() {
            inner(&mut shown, &table);
        }
        for (path, setting) in &self.settings {
            let free = FREE_TABLES.into_iter().find_map(|table| {
                let key = path.strip_prefix(table)?.strip_prefix('.')?;
                Some((table, key))
            });
            let (table, key) = free.or_else(|| path.rsplit_once('.')).unwrap_or(("", path));
            let value = match is_secret(path) {
                true => Value::String("***".to_owned()),
                false => setting.value.clone(),
            };
            inner(&mut shown, table).insert(key.to_owned(), value);
        }
        toml::to_string(&shown).unwrap_or_default()
    }
}

/// The table at a path, made when missing.
fn inner<'a>(table: &'a mut Table, path: &str) -> &'a mut Table {
    let keys = path.split('.').filter(|key| !key.is_empty());
    keys.fold(table, |table, key| {
        let made = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
        match made {
            Value::Table(inner) => inner,
            _ => panic!("`{key}` of default.toml is a value and a table"),
        }
    })
}

/// The settings of `default.toml` by path, but for the free tables.
fn defaults() -> BTreeMap<String, Value> {
    let table: Table = match DEFAULT.parse() {
        Ok(table) => table,
        Err(error) => panic!("default.toml: {error}"),
    };
    let mut settings = BTreeMap::new();
    let mut tables = vec![(String::new(), table)];
    while let Some((prefix, table)) = tables.pop() {
        for (key, value) in table {
            let path = match prefix.as_str() {
                "" => key,
                prefix => format!("{prefix}.{key}"),
            };
            match value {
                Value::Table(inner) => tables.push((path, inner)),
                value => drop(settings.insert(path, value)),
            }
        }
    }
    settings
}

/// A value that is one of the kinds that settings have.
fn plain(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::String(text.to_string())),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.ok().map(Value::Integer)
        }
        DeValue::Float(number) => number.as_str().parse().ok().map(Value::Float),
        DeValue::Boolean(truth) => Some(Value::Boolean(*truth)),
        _ => None,
    }
}

fn is_secret(path: &str) -> bool {
    path.strip_prefix("kafka.properties.").is_some_and(kafka::is_secret)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        _ => "a string",
    }
}

fn variable_of(path: &str) -> String {
    format!("SMARTCITY_{}", path.replace('.', "_").to_uppercase())
}

fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// `; did you mean ...?` when something is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    model::nearest(word, known).map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}
