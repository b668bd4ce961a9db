//! How a declaration says that values may be written.

use crate::one::{outcome, stream_of};

/// Each value and what it becomes: a column's value, or `!` and the class of a dead letter.
fn check(lines: &str, values: &[(&str, &str)]) {
    let stream = stream_of(lines);
    for (value, expected) in values {
        let found = outcome(&stream, value);
        let shown = found
            .as_ref()
            .map_or_else(|(class, _)| format!("!{class}"), Clone::clone);
        assert_eq!(shown, *expected, "{lines}: {value}: {found:?}");
    }
}

#[test]
fn numbers_in_text() {
    check(
        "type = \"double\"\nin_text = true",
        &[
            ("12.5", "12.5"),
            ("\"12.5\"", "12.5"),
            ("\"+1.5E1\"", "15"),
            ("\".5\"", "0.5"),
            ("\"1\\u0032\"", "12"),
            ("\"12,5\"", "!wrong_type"),
            ("\" 12.5\"", "!wrong_type"),
            ("\"\"", "!wrong_type"),
            ("\"NaN\"", "!wrong_type"),
            ("\"Infinity\"", "!wrong_type"),
            ("\"0x10\"", "!wrong_type"),
            ("\"1e999\"", "!not_finite"),
            ("true", "!wrong_type"),
        ],
    );
    check(
        "type = \"integer\"\nin_text = true\nmin = 0",
        &[
            ("\"007\"", "7"),
            ("\"2024.0\"", "2024"),
            ("\"-1\"", "!out_of_range"),
            ("\"2147483648\"", "!wrong_type"),
            ("\"1.5\"", "!wrong_type"),
        ],
    );
    check(
        "type = \"long\"\nin_text = true",
        &[
            ("\"9223372036854775807\"", "9223372036854775807"),
            ("\"9223372036854775808\"", "!wrong_type"),
        ],
    );
    check(
        "type = \"boolean\"\nin_text = true",
        &[
            ("\"true\"", "true"),
            ("\"False\"", "false"),
            ("\"yes\"", "!wrong_type"),
            ("1", "!wrong_type"),
        ],
    );
}

#[test]
fn a_decimal_comma() {
    for field_type in ["double", "decimal(6,2)"] {
        check(
            &format!("type = \"{field_type}\"\ndecimal_comma = true\ntrim = true"),
            &[
                ("\"12,50\"", if field_type == "double" { "12.5" } else { "12.50" }),
                ("\"12.25\"", "12.25"),
                ("\" -0,75 \"", "-0.75"),
                ("0.25", "0.25"),
                // Either may be for the thousands.
                ("\"1.234,50\"", "!wrong_type"),
                ("\"1,234.50\"", "!wrong_type"),
                ("\"1,2,3\"", "!wrong_type"),
            ],
        );
    }
    check(
        "type = \"long\"\ndecimal_comma = true",
        &[("\"12,0\"", "12"), ("\"12,5\"", "!wrong_type")],
    );
}

#[test]
fn epochs_of_every_unit() {
    let instant = "2026-01-02T03:04:05.678000";
    for (unit, count) in [
        ("s", "1767323045.678"),
        ("ms", "1767323045678"),
        ("us", "1767323045678000"),
        ("ns", "1767323045678000999"),
    ] {
        check(
            &format!("type = \"timestamp\"\nepoch = \"{unit}\""),
            &[
                (count, instant),
                (&format!("\"{count}\""), instant),
                ("\"2026-01-02T03:04:05.678Z\"", instant),
                ("0", "1970-01-01T00:00:00.000000"),
                ("-0.0", "1970-01-01T00:00:00.000000"),
                ("1e30", "!bad_timestamp"),
                ("\"soon\"", "!bad_timestamp"),
                ("\"\"", "!bad_timestamp"),
                ("true", "!wrong_type"),
            ],
        );
    }
    check(
        "type = \"timestamp\"\nepoch = \"s\"",
        &[
            ("-1", "1969-12-31T23:59:59.000000"),
            ("-0.0000001", "1969-12-31T23:59:59.999999"),
            ("1.767323045678e9", instant),
            ("253402300799.9999999", "9999-12-31T23:59:59.999999"),
            ("253402300800", "!bad_timestamp"),
            ("-62135596800", "0001-01-01T00:00:00.000000"),
            ("-62135596800.1", "!bad_timestamp"),
        ],
    );
    check(
        "type = \"date\"\nepoch = \"d\"",
        &[
            ("20454", "2026-01-01"),
            ("\"20454\"", "2026-01-01"),
            ("-719162", "0001-01-01"),
            ("-719163", "!bad_date"),
            ("1.5", "!bad_date"),
            ("\"2026-01-01\"", "2026-01-01"),
        ],
    );
}

#[test]
fn declared_formats() {
    check(
        "type = \"timestamp\"\nformats = [\"%d.%m.%Y %H:%M:%S\", \"%Y-%m-%d\", \"%Y%m%d\"]\ntrim = true",
        &[
            ("\"31.01.2026 10:11:12\"", "2026-01-31T10:11:12.000000"),
            ("\"2026-01-31\"", "2026-01-31T00:00:00.000000"),
            ("\"20260131\"", "2026-01-31T00:00:00.000000"),
            ("\" 2026-01-31T01:00+01:00\\n\"", "2026-01-31T00:00:00.000000"),
            ("\"31/01/2026\"", "!bad_timestamp"),
            ("\"31.02.2026 10:11:12\"", "!bad_timestamp"),
        ],
    );
    check(
        "type = \"date\"\nformats = [\"%m/%d/%Y\"]",
        &[
            ("\"01/31/2026\"", "2026-01-31"),
            ("\"2026-01-31\"", "2026-01-31"),
            ("\"31/01/2026\"", "!bad_date"),
        ],
    );
    check(
        "type = \"time\"\nformats = [\"%I:%M %p\"]",
        &[
            ("\"1:05 pm\"", "13:05:00.000000"),
            ("\"13:05\"", "13:05:00.000000"),
            ("\"13:05 pm\"", "!bad_time"),
        ],
    );
}

#[test]
fn texts_that_mean_null() {
    check(
        "type = \"double\"\nnullable = true\nnulls = [\"\", \"NaN\", \"n/a\"]\ntrim = true",
        &[
            ("\"\"", "null"),
            ("\"  \"", "null"),
            ("\"n/a\"", "null"),
            ("\"n\\u002fa \"", "null"),
            ("\"NaN\"", "null"),
            ("\"nan\"", "!wrong_type"),
            ("\"1\"", "!wrong_type"),
        ],
    );
    check(
        "type = \"string\"\nnullable = true\nnulls = [\"-\"]\ntrim = true\none_of = [\"a\", \"b c\"]",
        &[
            ("\"-\"", "null"),
            ("\" a\"", "a"),
            ("\"\\tb c\\n\"", "b c"),
            ("\" b\\u0020c \"", "b c"),
            ("\"\"", "!not_in_set"),
            ("\"A\"", "!not_in_set"),
        ],
    );
    check(
        "type = \"array<timestamp>\"\nnulls = [\"\"]\nepoch = \"s\"",
        &[(
            "[0,\"\",null,\"1970-01-01T00:00Z\"]",
            "[1970-01-01T00:00:00.000000,null,null,1970-01-01T00:00:00.000000]",
        )],
    );
    // Another place of the field counts then.
    check(
        "type = \"double\"\nnullable = true\nnulls = [\"\"]\nfrom = [\"x\", \"f\"]",
        &[
            ("\"\",\"x\":2.5", "2.5"),
            ("3.5,\"x\":\"\"", "3.5"),
            ("\"\",\"x\":\"\"", "null"),
        ],
    );
}

/// What a replay does is decode the dead letter again: it passes by the declaration that says how its value is written.
#[test]
fn dead_letters_pass_once_it_is_declared() {
    for (before, after, value) in [
        (
            "type = \"double\"",
            "type = \"double\"\ndecimal_comma = true",
            "\"12,50\"",
        ),
        ("type = \"double\"", "type = \"double\"\nin_text = true", "\"12.5\""),
        (
            "type = \"timestamp\"",
            "type = \"timestamp\"\nepoch = \"s\"",
            "1767323045",
        ),
        (
            "type = \"timestamp\"",
            "type = \"timestamp\"\nformats = [\"%Y-%m-%d\"]",
            "\"2026-01-01\"",
        ),
        (
            "type = \"integer\"",
            "type = \"integer\"\nin_text = true\ntrim = true",
            "\" 5\"",
        ),
        (
            "type = \"integer\"",
            "type = \"integer\"\nnullable = true\nnulls = [\"\"]",
            "\"\"",
        ),
    ] {
        assert!(outcome(&stream_of(before), value).is_err(), "{before}: {value}");
        assert!(outcome(&stream_of(after), value).is_ok(), "{after}: {value}");
    }
}
