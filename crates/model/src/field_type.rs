//! The types that a field may declare, by the names of Delta's types where Delta has them.

use std::fmt;

use crate::decimal::PRECISION_MAX;

/// The type of a column. Nested types hold others, and every part of a value of theirs may be null.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// UTF-8 text.
    String,
    /// 32 bits, signed: any JSON number whose value is such an integer, also when written as `2024.0` or `2e3`.
    Integer,
    /// 64 bits, signed.
    Long,
    /// IEEE 754 binary64; any JSON number whose value is finite.
    Double,
    Boolean,
    /// Microseconds, UTC; [`crate::event_time::parse`] says which texts.
    Timestamp,
    /// An exact number of `precision` digits, `scale` of them after the point. A number with more decimals is refused,
    /// never rounded.
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// A day of the Gregorian calendar, years 0001 to 9999.
    Date,
    /// A time of day. Delta has no such type: the column is text, always `HH:MM:SS.ffffff`, which sorts as time does.
    Time,
    /// Bytes, in JSON as base64 or hexadecimal text.
    Binary,
    /// Any JSON value, as its text.
    Json,
    Array(Box<FieldType>),
    /// Keys are texts, as JSON's are.
    Map(Box<FieldType>),
    Struct(Vec<Member>),
}

/// A field of a struct, found in the message by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    pub name: String,
    pub field_type: FieldType,
}

/// How deep types may nest, and how many parts one may have: far above what readers of tables cope with.
const DEPTH_MAX: usize = 8;
const PARTS_MAX: usize = 200;

impl FieldType {
    /// The types without parameters.
    pub const PLAIN: [FieldType; 10] = [
        FieldType::String,
        FieldType::Integer,
        FieldType::Long,
        FieldType::Double,
        FieldType::Boolean,
        FieldType::Timestamp,
        FieldType::Date,
        FieldType::Time,
        FieldType::Binary,
        FieldType::Json,
    ];

    /// Reads a type as a declaration writes it: `double`, `decimal(10,2)`, `array<struct<at: timestamp, value: double>>`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = TypeParser {
            whole: text,
            rest: text,
            parts: 0,
        };
        let parsed = parser.field_type(0)?;
        parser.skip_spaces();
        match parser.rest {
            "" => Ok(parsed),
            rest => Err(format!("type `{text}`: nothing may follow, but `{rest}` does")),
        }
    }

    /// Whether it holds other types.
    pub fn is_nested(&self) -> bool {
        matches!(self, FieldType::Array(_) | FieldType::Map(_) | FieldType::Struct(_))
    }

    /// The type itself where it is not nested, or all that it holds.
    pub fn leaves(&self) -> Vec<&FieldType> {
        match self {
            FieldType::Array(part) | FieldType::Map(part) => part.leaves(),
            FieldType::Struct(members) => members.iter().flat_map(|member| member.field_type.leaves()).collect(),
            leaf => vec![leaf],
        }
    }

    /// Whether any value of this type is within the bounds. The casts saturate, so `i128` holds every bound that matters.
    pub(crate) fn has_value_in(&self, min: Option<f64>, max: Option<f64>) -> bool {
        let of_type = match self {
            FieldType::Integer => (i128::from(i32::MIN), i128::from(i32::MAX)),
            FieldType::Long => (i128::from(i64::MIN), i128::from(i64::MAX)),
            FieldType::Decimal { precision, scale } => {
                let (min, max) = decimal_bounds(*precision, *scale, min, max);
                return min <= max;
            }
            _ => return true,
        };
        let min = min.map_or(of_type.0, |min| of_type.0.max(min.ceil() as i128));
        let max = max.map_or(of_type.1, |max| of_type.1.min(max.floor() as i128));
        min <= max
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(
            self,
            FieldType::Integer | FieldType::Long | FieldType::Double | FieldType::Decimal { .. }
        )
    }
}

/// The least and the greatest value of a decimal within bounds, in units of its scale.
pub fn decimal_bounds(precision: u8, scale: u8, min: Option<f64>, max: Option<f64>) -> (i128, i128) {
    use crate::decimal::{Unfit, scaled};
    let greatest = 10_i128.saturating_pow(precision.into()) - 1;
    // The shortest text of a double is the one that was declared, up to 17 digits.
    let units = |bound: f64, up: i128| match scaled(format!("{bound:e}").as_bytes(), scale.into()) {
        Ok(units) => units,
        Err(Unfit::Inexact { floor }) => floor + up,
        Err(_) if bound < 0.0 => i128::MIN,
        Err(_) => i128::MAX,
    };
    (
        min.map_or(-greatest, |min| units(min, 1).max(-greatest)),
        max.map_or(greatest, |max| units(max, 0).min(greatest)),
    )
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            FieldType::String => "string",
            FieldType::Integer => "integer",
            FieldType::Long => "long",
            FieldType::Double => "double",
            FieldType::Boolean => "boolean",
            FieldType::Timestamp => "timestamp",
            FieldType::Date => "date",
            FieldType::Time => "time",
            FieldType::Binary => "binary",
            FieldType::Json => "json",
            FieldType::Decimal { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            FieldType::Array(element) => return write!(f, "array<{element}>"),
            FieldType::Map(value) => return write!(f, "map<string, {value}>"),
            FieldType::Struct(members) => {
                f.write_str("struct<")?;
                for (number, member) in members.iter().enumerate() {
                    let comma = if number > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {}", member.name, member.field_type)?;
                }
                return f.write_str(">");
            }
        };
        f.write_str(name)
    }
}

struct TypeParser<'a> {
    whole: &'a str,
    rest: &'a str,
    parts: usize,
}

impl<'a> TypeParser<'a> {
    fn field_type(&mut self, depth: usize) -> Result<FieldType, String> {
        if depth > DEPTH_MAX {
            return Err(format!("type `{}`: nested deeper than {DEPTH_MAX}", self.whole));
        }
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(format!("type `{}`: more than {PARTS_MAX} parts", self.whole));
        }
        let name = self.name();
        let plain = FieldType::PLAIN.into_iter().find(|known| known.to_string() == name);
        match (name, plain) {
            (_, Some(plain)) => Ok(plain),
            ("decimal", _) => self.decimal(),
            ("array", _) => {
                self.expect("<")?;
                let element = self.field_type(depth + 1)?;
                self.expect(">")?;
                Ok(FieldType::Array(Box::new(element)))
            }
            ("map", _) => {
                self.expect("<")?;
                if self.name() != "string" {
                    return Err(format!(
                        "type `{}`: the keys of a map are texts, as in `map<string, double>`",
                        self.whole
                    ));
                }
                self.expect(",")?;
                let value = self.field_type(depth + 1)?;
                self.expect(">")?;
                Ok(FieldType::Map(Box::new(value)))
            }
            ("struct", _) => self.members(depth),
            (name, None) => {
                let plain = FieldType::PLAIN.map(|known| known.to_string()).join(", ");
                let shown = if name.is_empty() { self.rest } else { name };
                Err(format!(
                    "unknown type `{shown}`; known are {plain}, decimal(10,2), array<double>, map<string, double>, \
                     struct<name: double>"
                ))
            }
        }
    }

    fn decimal(&mut self) -> Result<FieldType, String> {
        self.expect("(")?;
        let precision = self.number()?;
        self.expect(",")?;
        let scale = self.number()?;
        self.expect(")")?;
        if !(1..=PRECISION_MAX).contains(&precision) || scale > precision {
            return Err(format!(
                "type `decimal({precision},{scale})`: use 1 to {PRECISION_MAX} digits, and no more decimals than digits"
            ));
        }
        Ok(FieldType::Decimal { precision, scale })
    }

    fn members(&mut self, depth: usize) -> Result<FieldType, String> {
        self.expect("<")?;
        let mut members: Vec<Member> = Vec::new();
        loop {
            let name = self.name().to_owned();
            let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
            if !starts_well || name.len() > 64 {
                return Err(format!(
                    "type `{}`: a struct's field is `name: type`, its name of letters, digits and _, at most 64",
                    self.whole
                ));
            }
            // Spark, Trino and others take names that differ in case alone for one.
            if let Some(twin) = members.iter().find(|known| known.name.eq_ignore_ascii_case(&name)) {
                return Err(format!(
                    "type `{}`: the struct has both `{}` and `{name}`",
                    self.whole, twin.name
                ));
            }
            self.expect(":")?;
            let field_type = self.field_type(depth + 1)?;
            members.push(Member { name, field_type });
            self.skip_spaces();
            if !self.rest.starts_with(',') {
                break;
            }
            self.expect(",")?;
        }
        self.expect(">")?;
        Ok(FieldType::Struct(members))
    }

    /// Letters, digits and underscores; none is an empty name.
    fn name(&mut self) -> &'a str {
        self.skip_spaces();
        let end = self
            .rest
            .find(|byte: char| !byte.is_ascii_alphanumeric() && byte != '_')
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    fn number(&mut self) -> Result<u8, String> {
        let name = self.name();
        name.parse()
            .map_err(|_| format!("type `{}`: `{name}` is no number of digits", self.whole))
    }

    fn expect(&mut self, mark: &str) -> Result<(), String> {
        self.skip_spaces();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None if self.rest.is_empty() => Err(format!("type `{}`: `{mark}` is missing at its end", self.whole)),
            None => Err(format!(
                "type `{}`: `{mark}` is missing before `{}`",
                self.whole, self.rest
            )),
        }
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_as_they_are_written() {
        for text in [
            "string",
            "decimal(10,2)",
            "array<double>",
            "map<string, array<decimal(38,38)>>",
            "struct<at: timestamp, Value_2: array<struct<x: json>>>",
        ] {
            assert_eq!(FieldType::parse(text).unwrap().to_string(), text);
        }
        let spaced = FieldType::parse(" array < struct< a:date ,b : time > > ").unwrap();
        assert_eq!(spaced.to_string(), "array<struct<a: date, b: time>>");
    }

    #[test]
    fn what_is_wrong_with_a_type_is_named() {
        for (text, says) in [
            ("int", "unknown type `int`; known are string, integer"),
            ("", "unknown type ``; known are"),
            ("decimal", "`(` is missing at its end"),
            ("decimal(10)", "`,` is missing before `)`"),
            ("decimal(39,2)", "use 1 to 38 digits"),
            ("decimal(2,3)", "no more decimals than digits"),
            ("decimal(x,3)", "`x` is no number of digits"),
            ("decimal(300,3)", "`300` is no number of digits"),
            ("array<double", "`>` is missing at its end"),
            ("array<dbl>", "unknown type `dbl`"),
            ("map<integer, double>", "the keys of a map are texts"),
            ("struct<>", "a struct's field is `name: type`"),
            ("struct<a: string, A: string>", "the struct has both `a` and `A`"),
            ("double double", "nothing may follow, but `double` does"),
            (
                &format!("{}double{}", "array<".repeat(20), ">".repeat(20)),
                "nested deeper than 8",
            ),
        ] {
            let error = FieldType::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let members: Vec<String> = (0..300).map(|number| format!("m{number}: string")).collect();
        let error = FieldType::parse(&format!("struct<{}>", members.join(", "))).unwrap_err();
        assert!(error.contains("more than 200 parts"), "{error}");
    }

    #[test]
    fn bounds_of_decimals_are_exact() {
        assert_eq!(decimal_bounds(5, 2, Some(0.1), Some(99.995)), (10, 9999));
        assert_eq!(decimal_bounds(5, 2, Some(-0.011), Some(1e300)), (-1, 99_999));
        assert_eq!(decimal_bounds(3, 0, None, None), (-999, 999));
        let decimal = FieldType::parse("decimal(3,0)").unwrap();
        assert!(!decimal.has_value_in(Some(0.1), Some(0.9)));
        assert!(!decimal.has_value_in(Some(1000.0), None));
        assert!(decimal.has_value_in(Some(999.0), None));
    }
}
