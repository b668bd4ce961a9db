//! One `[[field]]` of a declaration.

use super::check_name;
use super::source::{Keys, Table};
use crate::{Encoding, EpochUnit, Field, FieldType, Path, TimeFormat, Written};

const FIELD_KEYS: Keys = Keys(&[
    "name",
    "type",
    "unit",
    "nullable",
    "unique",
    "min",
    "max",
    "one_of",
    "from",
    "doc",
    "in_text",
    "decimal_comma",
    "trim",
    "nulls",
    "formats",
    "epoch",
    "encoding",
]);

/// `None` where its name, type or places cannot be read; other mistakes are noted.
pub(super) fn read_field(table: &Table<'_>) -> Option<Field> {
    table.check_keys(&FIELD_KEYS);
    let name = table.required("name");
    if let Some(name) = name {
        check_name(table, name, "field name");
    }
    let field_type = table
        .required("type")
        .and_then(|text| table.checked(text.at, FieldType::parse(text.text)));
    let doc = table.filled("doc");
    let places = table.texts("from");
    let from: Option<Vec<Path>> = match places.as_slice() {
        [] => name.and_then(|name| Some(vec![table.checked(name.at, Path::parse(name.text))?])),
        places => {
            let parsed: Vec<_> = places
                .iter()
                .map(|place| table.checked(place.at, Path::parse(place.text)))
                .collect();
            parsed.into_iter().collect()
        }
    };
    let (name, field_type) = (name?, field_type?);
    let nullable = table.flag("nullable");
    let (min, max) = read_bounds(table, &field_type);
    let one_of = read_set(table, &field_type);
    let written = read_written(table, &field_type, nullable);
    Some(Field {
        name: name.text.to_owned(),
        field_type,
        unit: table.text("unit").map(|unit| unit.text.to_owned()),
        nullable,
        unique: table.flag("unique"),
        written,
        min,
        max,
        one_of,
        from: from?,
        doc: doc.map_or_else(String::new, |doc| doc.text.to_owned()),
    })
}

fn read_bounds(table: &Table<'_>, field_type: &FieldType) -> (Option<f64>, Option<f64>) {
    let (min, max) = (table.number("min"), table.number("max"));
    let mut is_good = true;
    for (bound, at) in [min, max].into_iter().flatten() {
        if !field_type.is_number() || !bound.is_finite() {
            let message = format!("bound {bound}: use a finite number, and a number type, not {field_type}");
            table.error(at, message);
            is_good = false;
        }
    }
    let value = |bound: Option<(f64, usize)>| bound.map(|(value, _)| value);
    if let (Some((least, at)), Some((greatest, _))) = (min, max)
        && least > greatest
    {
        table.error(at, format!("min {least} is above max {greatest}"));
    } else if is_good && !field_type.has_value_in(value(min), value(max)) {
        let at = min.or(max).map_or(table.at(), |(_, at)| at);
        table.error(at, format!("no {field_type} is within these bounds"));
    }
    (value(min), value(max))
}

fn read_set(table: &Table<'_>, field_type: &FieldType) -> Vec<String> {
    let set = table.texts("one_of");
    if let Some(first) = set.first()
        && *field_type != FieldType::String
    {
        table.error(first.at, format!("one_of needs type string, not {field_type}"));
    }
    set.into_iter().map(|text| text.text.to_owned()).collect()
}

/// The keys that say how values may be written, each of which must have a meaning for the type.
fn read_written(table: &Table<'_>, field_type: &FieldType, nullable: bool) -> Written {
    let leaves = field_type.leaves();
    let any = |fits: fn(&FieldType) -> bool| leaves.iter().any(|leaf| fits(leaf));
    let needs = |at: usize, key: &str, fits: fn(&FieldType) -> bool, what: &str| {
        if !any(fits) {
            table.error(at, format!("`{key}` needs {what}, not {field_type}"));
        }
    };
    let is_number = |leaf: &FieldType| leaf.is_number();
    let is_number_or_boolean = |leaf: &FieldType| leaf.is_number() || *leaf == FieldType::Boolean;
    let is_time = |leaf: &FieldType| matches!(leaf, FieldType::Timestamp | FieldType::Date | FieldType::Time);
    if let Some(at) = table.place_of_flag("in_text") {
        needs(at, "in_text", is_number_or_boolean, "a number type or boolean");
    }
    if let Some(at) = table.place_of_flag("decimal_comma") {
        needs(at, "decimal_comma", is_number, "a number type");
    }
    let trim = table.flag("trim");
    if let Some(at) = table.place_of_flag("trim") {
        needs(
            at,
            "trim",
            |leaf| *leaf != FieldType::Json,
            "a type whose values may come as text",
        );
    }
    let nulls = table.texts("nulls");
    if let Some(first) = nulls.first() {
        needs(
            first.at,
            "nulls",
            |leaf| *leaf != FieldType::Json,
            "a type whose values may come as text",
        );
        if !nullable && !field_type.is_nested() {
            table.error(
                first.at,
                "`nulls` are texts that mean null: they need `nullable = true`",
            );
        }
        for null in nulls.iter().filter(|null| trim && null.text.trim() != null.text) {
            table.error(
                null.at,
                format!("`nulls` {:?} has white space, which `trim` takes away", null.text),
            );
        }
    }
    let mut formats = Vec::new();
    for text in table.texts("formats") {
        needs(text.at, "formats", is_time, "type timestamp, date or time");
        let format = table.checked(text.at, TimeFormat::parse(text.text));
        if let Some(format) = format {
            let lacks_date = any(|leaf| matches!(leaf, FieldType::Timestamp | FieldType::Date)) && !format.has_date();
            let lacks_time = any(|leaf| *leaf == FieldType::Time) && !format.has_time();
            for (lacks, what) in [(lacks_date, "date (%Y, %m, %d)"), (lacks_time, "time (%H)")] {
                if lacks {
                    table.error(
                        text.at,
                        format!("format `{}` has no {what}, which {field_type} needs", text.text),
                    );
                }
            }
            formats.push(format);
        }
    }
    let epoch = table.text("epoch").and_then(|text| {
        let unit = EpochUnit::ALL.into_iter().find(|unit| unit.as_str() == text.text);
        match unit {
            Some(unit) if leaves.iter().any(|leaf| unit.fits(leaf)) => {}
            Some(_) => table.error(
                text.at,
                format!(
                    "epoch `{}`: use `s`, `ms`, `us` or `ns` with type timestamp, `d` with type date; this is {field_type}",
                    text.text
                ),
            ),
            None => table.error(text.at, format!("unknown epoch `{}`; known are s, ms, us, ns, d", text.text)),
        }
        unit
    });
    let encoding = table.text("encoding").and_then(|text| {
        needs(text.at, "encoding", |leaf| *leaf == FieldType::Binary, "type binary");
        let encoding = Encoding::ALL
            .into_iter()
            .find(|encoding| encoding.as_str() == text.text);
        if encoding.is_none() {
            table.error(
                text.at,
                format!("unknown encoding `{}`; known are base64, hex", text.text),
            );
        }
        encoding
    });
    Written {
        in_text: table.flag("in_text"),
        decimal_comma: table.flag("decimal_comma"),
        trim,
        nulls: nulls.into_iter().map(|text| text.text.to_owned()).collect(),
        formats,
        epoch,
        encoding: encoding.unwrap_or_default(),
    }
}
