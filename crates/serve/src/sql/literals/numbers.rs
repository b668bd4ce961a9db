//! Decimals and integers compared with literal numbers, exactly.
//!
//! A number that the column's type does not hold lies between two that it does, or beyond all of them; either way there
//! is a comparison with one of those that says the same: `d < 12.345` is `d <= 12.34` for two decimals.

use arrow_schema::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::Between;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, lit};
use model::decimal::{Unfit, scaled, text};

/// Values of a decimal or integer type as integers: units of its scale.
#[derive(Clone, Copy)]
struct Units<'a> {
    data_type: &'a DataType,
    min: i128,
    max: i128,
    scale: i8,
}

/// Where a literal lies among these values.
#[derive(Clone, Copy)]
enum Place {
    At(i128),
    /// Between this one and the next.
    Above(i128),
    AboveAll,
    BelowAll,
}

impl<'a> Units<'a> {
    fn of(data_type: &'a DataType) -> Option<Self> {
        let (min, max, scale) = match data_type {
            DataType::Int32 => (i32::MIN.into(), i32::MAX.into(), 0),
            DataType::Int64 => (i64::MIN.into(), i64::MAX.into(), 0),
            DataType::Decimal128(precision, scale) => {
                let greatest = 10_i128.checked_pow((*precision).into())? - 1;
                (-greatest, greatest, *scale)
            }
            _ => return None,
        };
        Some(Self {
            data_type,
            min,
            max,
            scale,
        })
    }

    /// `None` for a literal that is no number, or null.
    fn place(&self, literal: &ScalarValue) -> Option<Place> {
        let number = match literal {
            ScalarValue::Int64(Some(number)) => number.to_string(),
            ScalarValue::UInt64(Some(number)) => number.to_string(),
            ScalarValue::Float64(Some(number)) if number.is_finite() => format!("{number:e}"),
            ScalarValue::Decimal128(Some(units), _, scale) => text(*units, u8::try_from(*scale).ok()?),
            ScalarValue::Utf8(Some(number)) | ScalarValue::Utf8View(Some(number)) => number.trim().to_owned(),
            _ => return None,
        };
        let beyond = || match number.starts_with('-') {
            true => Place::BelowAll,
            false => Place::AboveAll,
        };
        Some(match scaled(number.as_bytes(), self.scale.into()) {
            Ok(units) if units > self.max => Place::AboveAll,
            Ok(units) if units < self.min => Place::BelowAll,
            Ok(units) => Place::At(units),
            Err(Unfit::Inexact { floor }) if floor >= self.max => Place::AboveAll,
            Err(Unfit::Inexact { floor }) if floor < self.min => Place::BelowAll,
            Err(Unfit::Inexact { floor }) => Place::Above(floor),
            Err(Unfit::TooLarge) => beyond(),
            Err(Unfit::NotANumber) => return None,
        })
    }

    fn literal(&self, units: i128) -> Expr {
        lit(match self.data_type {
            DataType::Int32 => ScalarValue::Int32(i32::try_from(units).ok()),
            DataType::Decimal128(precision, scale) => ScalarValue::Decimal128(Some(units), *precision, *scale),
            _ => ScalarValue::Int64(i64::try_from(units).ok()),
        })
    }

    /// A comparison with one of these values that says what `operator` does about a literal at `place`.
    fn comparison(&self, operator: Operator, place: Place) -> Option<(Operator, i128)> {
        use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
        let floor = match place {
            Place::At(units) => return Some((operator, units)),
            Place::Above(floor) => floor,
            Place::AboveAll => self.max,
            // Nothing is below the least: `>=` it says "any", `<` it "none".
            Place::BelowAll => {
                return Some(match operator {
                    Lt | LtEq | Eq => (Lt, self.min),
                    Gt | GtEq | NotEq => (GtEq, self.min),
                    _ => return None,
                });
            }
        };
        Some(match operator {
            Lt | LtEq => (LtEq, floor),
            Gt | GtEq => (Gt, floor),
            // Never, and always, but for nulls.
            Eq => (Gt, self.max),
            NotEq => (LtEq, self.max),
            IsDistinctFrom | IsNotDistinctFrom => return None,
            _ => return None,
        })
    }
}

/// A comparison of a decimal or integer with a literal, in the former's own type; `None` where it is no such comparison.
pub(super) fn compared(left: &Expr, operator: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    let (column, operator, literal) = match (left, right) {
        (_, Expr::Literal(literal, _)) => (left, operator, literal),
        (Expr::Literal(literal, _), _) => (right, operator.swap()?, literal),
        _ => return None,
    };
    if matches!(column, Expr::Literal(..)) {
        return None;
    }
    let data_type = column.get_type(schema).ok()?;
    let units = Units::of(&data_type)?;
    let (operator, value) = units.comparison(operator, units.place(literal)?)?;
    Some(binary(column.clone(), operator, units.literal(value)))
}

/// The same of `BETWEEN` with two literals.
pub(super) fn between(expr: &Expr, negated: bool, low: &Expr, high: &Expr, schema: &DFSchema) -> Option<Expr> {
    let (Expr::Literal(low, _), Expr::Literal(high, _)) = (low, high) else {
        return None;
    };
    let data_type = expr.get_type(schema).ok()?;
    let units = Units::of(&data_type)?;
    let (low, high) = (units.place(low)?, units.place(high)?);
    // The least value that is not below the lower bound, the greatest that is not above the upper one.
    let least = match low {
        Place::At(units) => units,
        Place::Above(floor) => floor + 1,
        Place::BelowAll => units.min,
        Place::AboveAll => units.max,
    };
    let greatest = match high {
        Place::At(units) | Place::Above(units) => units,
        Place::AboveAll => units.max,
        Place::BelowAll => units.min,
    };
    let is_empty = matches!(low, Place::AboveAll) || matches!(high, Place::BelowAll) || least > greatest;
    let (least, greatest) = match is_empty {
        true => (units.max, units.min),
        false => (least, greatest),
    };
    Some(Expr::Between(Between {
        expr: Box::new(expr.clone()),
        negated,
        low: Box::new(units.literal(least)),
        high: Box::new(units.literal(greatest)),
    }))
}

/// Puts literal numbers of a list into the type of the decimal or integer that is looked for in it. Those that the type
/// does not hold go: nothing equals them. Whether anything changed.
pub(super) fn set_in_own_type(expr: &Expr, list: &mut Vec<Expr>, schema: &DFSchema) -> bool {
    let Ok(data_type) = expr.get_type(schema) else {
        return false;
    };
    let Some(units) = Units::of(&data_type) else {
        return false;
    };
    let place = |value: &Expr| match value {
        Expr::Literal(literal, _) => units.place(literal),
        _ => None,
    };
    // A list with anything else in it keeps its meaning and its type.
    let Some(places) = list.iter().map(place).collect::<Option<Vec<Place>>>() else {
        return false;
    };
    let held = places.into_iter().filter_map(|place| match place {
        Place::At(value) => Some(units.literal(value)),
        _ => None,
    });
    let held: Vec<Expr> = held.collect();
    if held.is_empty() {
        return false;
    }
    *list = held;
    true
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr {
        left: Box::new(left),
        op,
        right: Box::new(right),
    })
}
