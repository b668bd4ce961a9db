//! The stream declarations: the ones built in, or the user's folder, with topics renamed as the settings say.

use std::path::Path;

use anyhow::Result;
use include_dir::{Dir, include_dir};
use model::Streams;

use crate::config::{Config, nearest};
use crate::exit::usage;

static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../streams");

/// All streams that the settings name. `only` keeps some of them, by name; empty keeps all.
pub(crate) fn load(config: &Config, only: &[String]) -> Result<Streams> {
    let files = match &config.streams.dir {
        Some(dir) => read(dir)?,
        None => BUILT_IN
            .files()
            .filter_map(|file| {
                Some((
                    format!("streams/{}", file.path().display()),
                    file.contents_utf8()?.to_owned(),
                ))
            })
            .collect(),
    };
    let mut streams = Streams::parse(files.iter().map(|(file, text)| (file.as_str(), text.as_str())))?;
    let unknown = |name: &str| {
        let hint = nearest(name, streams.iter().map(|stream| stream.name.as_str()));
        usage(format!("there is no stream `{name}`{hint}"))
    };
    for name in only.iter().chain(config.topics.keys()) {
        if streams.get(name).is_none() {
            return Err(unknown(name));
        }
    }
    for (name, topic) in &config.topics {
        let _known = streams.set_topic(name, topic);
    }
    if !only.is_empty() {
        streams.retain(|stream| only.contains(&stream.name));
    }
    Ok(streams)
}

fn read(dir: &Path) -> Result<Vec<(String, String)>> {
    let cannot = |error: std::io::Error| usage(format!("cannot read streams from {}: {error}", dir.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).map_err(cannot)?;
            files.push((path.display().to_string(), text));
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err(usage(format!("{} holds no *.toml", dir.display()))),
        false => Ok(files),
    }
}
