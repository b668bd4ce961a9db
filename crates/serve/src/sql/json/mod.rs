//! JSON in text columns: functions and operators to read `_extra` and columns of type json with.
//!
//! Names are those of `datafusion-functions-json`, the meaning of `->` and `->>` is PostgreSQL's: JSON text, and a value as
//! text. The crate itself was rejected: it switches on a feature of `lexical-core` that makes all of Arrow another build
//! with slower number parsing, and its `json_get` gives a union, which no result format holds.

mod find;

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, StringArray};
use arrow_cast::cast;
use arrow_schema::DataType;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::{Between, InList, Like, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::sqlparser::ast::BinaryOperator;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use self::find::{Step, find};
use super::literals::is_comparison;

/// All functions.
pub(super) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    What::ALL.into_iter().map(JsonFunction::udf)
}

/// What a function gives of the value that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    /// Its JSON text.
    Json,
    /// Its text, a text's without quotes and escapes.
    AsText,
    Text,
    Integer,
    Float,
    Boolean,
    /// Whether there is one, if only a null.
    Contains,
    /// How many elements or members it has.
    Length,
}

impl What {
    const ALL: [What; 8] = [
        What::Json,
        What::AsText,
        What::Text,
        What::Integer,
        What::Float,
        What::Boolean,
        What::Contains,
        What::Length,
    ];

    fn name(self) -> &'static str {
        match self {
            What::Json => "json_get",
            What::AsText => "json_as_text",
            What::Text => "json_get_str",
            What::Integer => "json_get_int",
            What::Float => "json_get_float",
            What::Boolean => "json_get_bool",
            What::Contains => "json_contains",
            What::Length => "json_length",
        }
    }
}

/// A function of JSON text and a path: keys and positions in arrays, from 0. What is not there, has another type or is no
/// JSON gives null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    what: What,
    signature: Signature,
}

impl JsonFunction {
    fn udf(what: What) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(Self {
            what,
            signature: Signature::variadic_any(Volatility::Immutable),
        }))
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.what.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let name = self.name();
        let is_text = |own: &DataType| own.is_string() || matches!(own, DataType::Null);
        match arg_types.split_first() {
            None => return plan_err!("{name} needs JSON text, as in {name}(_extra, 'key')"),
            Some((json, _)) if !is_text(json) => return plan_err!("{name} reads JSON text, not {json}"),
            Some((_, path)) => {
                if let Some(other) = path.iter().find(|own| !is_text(own) && !own.is_integer()) {
                    return plan_err!("the path of {name} has keys (text) and positions (integers), not {other}");
                }
            }
        }
        Ok(match self.what {
            What::Json | What::AsText | What::Text => DataType::Utf8,
            What::Integer | What::Length => DataType::Int64,
            What::Float => DataType::Float64,
            What::Boolean | What::Contains => DataType::Boolean,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut arrays = Vec::with_capacity(args.args.len());
        for arg in args.args {
            arrays.push(arg.into_array(rows)?);
        }
        let Some((json, path)) = arrays.split_first() else {
            return plan_err!("{} needs JSON text", self.name());
        };
        let json = cast(json, &DataType::Utf8)?;
        let path = path.iter().map(PathArgument::new).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(self.what.read(json.as_string(), &path)))
    }
}

/// One step of the path, for each row.
enum PathArgument {
    Keys(StringArray),
    Positions(Int64Array),
}

impl PathArgument {
    fn new(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type().is_integer() {
            true => Self::Positions(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            false => Self::Keys(cast(array, &DataType::Utf8)?.as_string().clone()),
        })
    }

    fn step(&self, row: usize) -> Option<Step<'_>> {
        match self {
            Self::Keys(keys) => keys.is_valid(row).then(|| Step::Key(keys.value(row))),
            Self::Positions(positions) => {
                let position = positions.is_valid(row).then(|| positions.value(row))?;
                usize::try_from(position).ok().map(Step::Position)
            }
        }
    }
}

impl What {
    fn read(self, json: &StringArray, path: &[PathArgument]) -> ArrayRef {
        let found = (0..json.len()).map(|row| {
            let text = json.is_valid(row).then(|| json.value(row));
            let mut steps = path.iter().map(|argument| argument.step(row));
            // A row without text or with a null in its path has no answer; another may have found nothing.
            match (
                text,
                steps.try_fold(Vec::new(), |mut steps, step| {
                    steps.push(step?);
                    Some(steps)
                }),
            ) {
                (Some(text), Some(steps)) => Some(find(text, &steps)),
                _ => None,
            }
        });
        let values = found.map(|found| (found.is_some(), found.flatten()));
        match self {
            What::Json | What::AsText | What::Text => {
                let mut texts = StringBuilder::new();
                for (_, value) in values {
                    texts.append_option(value.filter(|value| !value.is_null()).and_then(|value| match self {
                        What::Json => Some(value.json().into()),
                        What::AsText => value.text().or_else(|| Some(value.json().into())),
                        _ => value.text(),
                    }));
                }
                Arc::new(texts.finish())
            }
            What::Integer | What::Length => {
                let mut integers = Int64Builder::new();
                for (_, value) in values {
                    integers.append_option(value.and_then(|value| match self {
                        What::Length => value.len(),
                        _ => value.integer(),
                    }));
                }
                Arc::new(integers.finish())
            }
            What::Float => {
                let mut floats = Float64Builder::new();
                values.for_each(|(_, value)| floats.append_option(value.and_then(|value| value.float())));
                Arc::new(floats.finish())
            }
            What::Boolean | What::Contains => {
                let mut booleans = BooleanBuilder::new();
                for (is_asked, value) in values {
                    booleans.append_option(match self {
                        What::Contains => is_asked.then_some(value.is_some()),
                        _ => value.and_then(|value| value.boolean()),
                    });
                }
                Arc::new(booleans.finish())
            }
        }
    }
}

/// `->` and `->>`.
#[derive(Debug)]
pub(super) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let what = match expr.op {
            BinaryOperator::Arrow => What::Json,
            BinaryOperator::LongArrow => What::AsText,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        Ok(PlannerResult::Planned(step_into(what, expr.left, expr.right)))
    }
}

/// `json -> step`. The parser binds these operators looser than comparisons, PostgreSQL tighter: what came here as
/// `a = (json -> step)` or `json -> (step = a)` with the parentheses elsewhere is put right, as no truth value is JSON text
/// or a step.
fn step_into(what: What, json: Expr, step: Expr) -> Expr {
    let boxed = |json, step: Box<Expr>| Box::new(step_into(what, json, *step));
    match (json, step) {
        (Expr::BinaryExpr(BinaryExpr { left, op, right }), step) if is_predicate(op) => {
            let right = Box::new(step_into(what, *right, step));
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        }
        (json, Expr::BinaryExpr(BinaryExpr { left, op, right })) if is_predicate(op) => {
            let left = boxed(json, left);
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        }
        (json, Expr::Like(like)) => Expr::Like(Like {
            expr: boxed(json, like.expr),
            ..like
        }),
        (json, Expr::SimilarTo(like)) => Expr::SimilarTo(Like {
            expr: boxed(json, like.expr),
            ..like
        }),
        (json, Expr::Between(between)) => Expr::Between(Between {
            expr: boxed(json, between.expr),
            ..between
        }),
        (json, Expr::InList(list)) => Expr::InList(InList {
            expr: boxed(json, list.expr),
            ..list
        }),
        (json, Expr::IsNull(step)) => Expr::IsNull(boxed(json, step)),
        (json, Expr::IsNotNull(step)) => Expr::IsNotNull(boxed(json, step)),
        // `_extra -> 'a' -> 'b'` is one path.
        (Expr::ScalarFunction(ScalarFunction { func, mut args }), step) if func.name() == What::Json.name() => {
            args.push(step);
            JsonFunction::udf(what).call(args)
        }
        (json, step) => JsonFunction::udf(what).call(vec![json, step]),
    }
}

/// Whether an operator gives a truth value from others than truth values.
fn is_predicate(operator: Operator) -> bool {
    is_comparison(operator)
        || matches!(
            operator,
            Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch
        )
}
