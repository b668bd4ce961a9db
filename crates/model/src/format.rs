//! What a stream's record values are written in.

use std::fmt;

/// The format of a stream's record values, by its name in the declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// One JSON object per record (RFC 8259), UTF-8.
    #[default]
    Json,
}

/// The least similarity of a name that is suggested instead of an unknown one.
const SIMILAR: f64 = 0.5;

impl Format {
    pub const ALL: [Format; 1] = [Format::Json];

    pub fn as_str(self) -> &'static str {
        match self {
            Format::Json => "json",
        }
    }

    /// The format of a name; the error names the nearest one and all of them.
    pub fn parse(name: &str) -> Result<Self, String> {
        if let Some(format) = Self::ALL.into_iter().find(|known| known.as_str() == name) {
            return Ok(format);
        }
        let all = Self::ALL.map(Format::as_str);
        let nearest = all
            .into_iter()
            .map(|known| {
                (
                    strsim::normalized_damerau_levenshtein(&name.to_lowercase(), known),
                    known,
                )
            })
            .filter(|(similarity, _)| *similarity >= SIMILAR)
            .max_by(|one, other| one.0.total_cmp(&other.0));
        let hint = nearest.map_or_else(String::new, |(_, known)| format!(", did you mean `{known}`?"));
        Err(format!("unknown format `{name}`{hint}; known are {}", all.join(", ")))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_format_names_the_nearest_and_all() {
        assert_eq!(Format::parse("json"), Ok(Format::Json));
        assert_eq!(
            Format::parse("jsno").unwrap_err(),
            "unknown format `jsno`, did you mean `json`?; known are json"
        );
        assert_eq!(
            Format::parse("xml").unwrap_err(),
            "unknown format `xml`; known are json"
        );
    }
}
