//! What tells two declarations of a stream apart that validate records differently.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{EpochUnit, Field, Stream, TimeFormat, Written};

/// Raise it when the decoder validates any record in another way than before: a writer of the older kind must stop then.
const RULES: u32 = 2;

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
        "type": field.field_type.to_string(),
        "nullable": field.nullable,
        "min": field.min,
        "max": field.max,
        "one_of": field.one_of,
        "from": from,
        "written": written(&field.written),
    })
}

fn written(written: &Written) -> serde_json::Value {
    let formats: Vec<&str> = written.formats.iter().map(TimeFormat::as_str).collect();
    json!({
        "in_text": written.in_text,
        "decimal_comma": written.decimal_comma,
        "trim": written.trim,
        "nulls": written.nulls,
        "formats": formats,
        "epoch": written.epoch.map(EpochUnit::as_str),
        "encoding": written.encoding.as_str(),
    })
}

#[cfg(test)]
mod tests {
    use crate::Streams;

    /// Of a stream with these lines in the declarations of a number, a timestamp and bytes.
    fn fingerprint([speed, seen, raw]: [&str; 3]) -> String {
        let text = format!(
            "name = \"s\"\nevent_time = \"at\"\n\
             [[field]]\nname = \"at\"\ntype = \"timestamp\"\n\
             [[field]]\nname = \"speed\"\ntype = \"double\"\n{speed}\n\
             [[field]]\nname = \"seen\"\ntype = \"timestamp\"\n{seen}\n\
             [[field]]\nname = \"raw\"\ntype = \"binary\"\n{raw}\n"
        );
        let streams = Streams::parse([("s.toml", text.as_str())]).unwrap();
        streams.get("s").unwrap().fingerprint()
    }

    #[test]
    fn differs_where_a_record_would_be_validated_differently() {
        let plain = fingerprint(["", "", ""]);
        assert_eq!(plain, fingerprint(["doc = \"b\"\nunit = \"km/h\"", "", ""]));
        for rule in [
            "min = 0.0",
            "max = 300.0",
            "nullable = true",
            "from = [\"v\"]",
            "in_text = true",
            "decimal_comma = true",
            "trim = true\nin_text = true",
        ] {
            assert_ne!(plain, fingerprint([rule, "", ""]), "{rule}");
        }
        let nullable = |rule| fingerprint([rule, "", ""]);
        assert_ne!(nullable("nullable = true"), nullable("nullable = true\nnulls = [\"\"]"));
        for rule in ["epoch = \"ms\"", "formats = [\"%d.%m.%Y\"]"] {
            assert_ne!(plain, fingerprint(["", rule, ""]), "{rule}");
        }
        assert_ne!(
            fingerprint(["", "epoch = \"s\"", ""]),
            fingerprint(["", "epoch = \"ms\"", ""])
        );
        assert_ne!(plain, fingerprint(["", "", "encoding = \"hex\""]));
    }
}
