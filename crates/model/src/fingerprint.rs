//! What tells two declarations of a stream apart that validate records differently.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{Field, Stream};

/// Raise it when the decoder validates any record in another way than before: a writer of the older kind must stop then.
const RULES: u32 = 1;

impl Stream {
    /// Equal for declarations by which each record has the same outcome. Names of streams and topics, units and
    /// descriptions do not count. 32 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let fields: Vec<_> = self.fields.iter().map(rules).collect();
        let text = json!({
            "rules": RULES,
            "format": self.format.as_str(),
            "elements": self.elements.as_ref().map(|elements| (elements.path.to_string(), elements.max)),
            "event_time": self.event_time,
            "fields": fields,
        })
        .to_string();
        let digest = Sha256::digest(text.as_bytes());
        digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn rules(field: &Field) -> serde_json::Value {
    let from: Vec<String> = field.from.iter().map(ToString::to_string).collect();
    json!({
        "name": field.name,
        "type": field.field_type.as_str(),
        "nullable": field.nullable,
        "min": field.min,
        "max": field.max,
        "one_of": field.one_of,
        "from": from,
    })
}

#[cfg(test)]
mod tests {
    use crate::Streams;

    fn fingerprint(field: &str) -> String {
        let text = format!(
            "name = \"s\"\ndescription = \"d\"\nkey = \"id\"\nevent_time = \"at\"\n\
             [[field]]\nname = \"id\"\ntype = \"string\"\ndoc = \"i\"\n\
             [[field]]\nname = \"at\"\ntype = \"timestamp\"\ndoc = \"t\"\n\
             [[field]]\nname = \"speed\"\ntype = \"double\"\n{field}\n"
        );
        let streams = Streams::parse([("s.toml", text.as_str())]).unwrap();
        streams.get("s").unwrap().fingerprint()
    }

    #[test]
    fn differs_where_a_record_would_be_validated_differently() {
        let plain = fingerprint("doc = \"a\"");
        assert_eq!(plain, fingerprint("doc = \"b\"\nunit = \"km/h\""));
        for rule in ["min = 0.0", "max = 300.0", "nullable = true", "from = [\"v\"]"] {
            assert_ne!(plain, fingerprint(&format!("doc = \"a\"\n{rule}")), "{rule}");
        }
    }
}
