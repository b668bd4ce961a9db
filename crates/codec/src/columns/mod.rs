//! Good rows on their way to a record batch: one growing buffer per column, handed to Arrow without a copy.

mod nested;

use std::iter::repeat_with;
use std::mem::{replace, take};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray, new_null_array,
};
use arrow_buffer::{ArrowNativeType, BooleanBufferBuilder, Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, SchemaRef};
use model::{FieldType, Stream, event_time};

use self::nested::Nested;
use crate::row::{Row, Scratch, Value};

/// The columns of one stream's table, in the order of [`Stream::arrow_schema`].
#[derive(Debug)]
pub(crate) struct Columns {
    schema: SchemaRef,
    /// `None`: Kafka's timestamp is the event time, or the time of ingest where there is none.
    event_time: Option<usize>,
    declared: Vec<Column>,
    event_date: Vec<i32>,
    partition: Vec<i32>,
    offset: Vec<i64>,
    kafka_timestamp: Primitives<i64>,
    ingested_at: Vec<i64>,
    extra: Texts,
    topic: Topics,
    element: ElementColumn,
    /// The last batch. Its buffers are the batch's after next, if nobody reads them any more by then: to give memory back
    /// to the system with each batch, and to have it cleared again, takes longer than many a broken record.
    handed_out: Vec<ArrayRef>,
}

/// Where a row comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// `None` in a stream without elements.
    pub(crate) element: Option<u32>,
    pub(crate) kafka_timestamp_us: Option<i64>,
    pub(crate) ingested_at_us: i64,
}

#[derive(Debug)]
enum Column {
    Text(Texts),
    Integer(Primitives<i32>),
    Long(Primitives<i64>),
    Double(Primitives<f64>),
    Boolean(Booleans),
    Timestamp(Primitives<i64>),
    Date(Primitives<i32>),
    Decimal(Primitives<i128>, DataType),
    Binary(Texts),
    Nested(Box<Nested>),
}

#[derive(Debug)]
struct Primitives<T> {
    values: Vec<T>,
    nulls: Nulls,
}

/// Of texts, or of bytes.
#[derive(Debug)]
struct Texts {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    nulls: Nulls,
}

#[derive(Debug)]
struct Booleans {
    values: BooleanBufferBuilder,
    nulls: Nulls,
}

/// The topic of each row. It hardly ever changes, so rows cost nothing: a batch of one topic is cut from an array that is
/// kept.
#[derive(Debug, Default)]
struct Topics {
    /// Topics, and from which row on.
    runs: Vec<(Arc<str>, usize)>,
    kept: Option<(Arc<str>, StringArray)>,
}

#[derive(Debug)]
enum ElementColumn {
    /// Of a stream with elements.
    Positions(Vec<i32>),
    /// Of a stream without; the array is kept for the next batch.
    Null(Option<ArrayRef>),
}

/// `None` for a column that is never null.
#[derive(Debug)]
struct Nulls(Option<NullBufferBuilder>);

/// The largest batch whose memory is kept for another.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Texts up to these lengths are copied as if they had them: a word or two, a UUID.
const SHORT: usize = 16;
const MEDIUM: usize = 48;

impl Columns {
    pub(crate) fn new(stream: &Stream) -> Self {
        let declared = stream
            .fields
            .iter()
            .map(|field| Column::new(&field.field_type, field.nullable))
            .collect();
        Self {
            schema: stream.arrow_schema(),
            event_time: stream.event_time_field(),
            declared,
            event_date: Vec::new(),
            partition: Vec::new(),
            offset: Vec::new(),
            kafka_timestamp: Primitives::new(true),
            ingested_at: Vec::new(),
            extra: Texts::new(true),
            topic: Topics::default(),
            element: match stream.elements {
                Some(_) => ElementColumn::Positions(Vec::new()),
                None => ElementColumn::Null(None),
            },
            handed_out: Vec::new(),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.offset.len()
    }

    /// Bytes of the values so far; nulls' bits are not counted.
    pub(crate) fn bytes(&self) -> usize {
        let declared: usize = self.declared.iter().map(Column::bytes).sum();
        // Date, partition, offset, two timestamps, element.
        declared + self.extra.bytes() + self.rows() * (4 + 4 + 8 + 8 + 8 + 4)
    }

    /// The rows that follow come from this topic.
    pub(crate) fn begin(&mut self, topic: &Arc<str>) {
        self.topic.begin(topic, self.offset.len());
    }

    /// Drops the rows after the first `rows`.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.declared.iter_mut().for_each(|column| column.truncate(rows));
        self.event_date.truncate(rows);
        self.partition.truncate(rows);
        self.offset.truncate(rows);
        self.kafka_timestamp.truncate(rows);
        self.ingested_at.truncate(rows);
        self.extra.truncate(rows);
        if let ElementColumn::Positions(positions) = &mut self.element {
            positions.truncate(rows);
        }
    }

    /// Appends a row; the values fit the columns because they were validated by the same declaration.
    pub(crate) fn append(&mut self, record: &[u8], row: &Row, origin: Origin) {
        debug_assert_eq!(row.values.len(), self.declared.len());
        for (column, value) in self.declared.iter_mut().zip(&row.values) {
            match (column, *value) {
                (Column::Text(texts), Value::Text { start, end }) => {
                    texts.append(record, start, end);
                }
                (Column::Text(texts), Value::Unescaped { start, end }) => {
                    texts.append(&row.scratch.bytes, start, end);
                }
                (Column::Double(doubles), Value::Double(double)) => doubles.append(double),
                (Column::Timestamp(instants), Value::Integer(instant)) => instants.append(instant),
                (Column::Integer(integers), Value::Integer(integer)) => integers.append(integer as i32),
                (Column::Long(longs), Value::Integer(long)) => longs.append(long),
                (Column::Boolean(booleans), Value::Boolean(boolean)) => {
                    booleans.values.append(boolean);
                    booleans.nulls.append(true);
                }
                (column, value) => column.append_rare(record, &row.scratch, value),
            }
        }
        let event_time_us = match self.event_time {
            // A required timestamp, by the rules for declarations.
            Some(field) => match row.values[field] {
                Value::Integer(event_time_us) => event_time_us,
                _ => unreachable!("a validated row has its event time"),
            },
            None => origin.kafka_timestamp_us.unwrap_or(origin.ingested_at_us),
        };
        self.event_date.push(event_time::days(event_time_us));
        self.partition.push(origin.partition);
        self.offset.push(origin.offset);
        match origin.kafka_timestamp_us {
            Some(us) => self.kafka_timestamp.append(us),
            None => self.kafka_timestamp.append_null(),
        }
        self.ingested_at.push(origin.ingested_at_us);
        match row.extra.as_slice() {
            [] => self.extra.append_null(),
            extra => self.extra.append(extra, 0, extra.len() as u32),
        }
        if let ElementColumn::Positions(positions) = &mut self.element {
            // At most a million, by the rules for declarations.
            positions.push(origin.element.unwrap_or_default() as i32);
        }
    }

    /// The rows so far as a batch, or `None` when there are none.
    pub(crate) fn take(&mut self) -> Option<RecordBatch> {
        if self.rows() == 0 {
            return None;
        }
        let rows = self.rows();
        let keep = self.bytes() <= KEPT_BYTES_MAX;
        let spares = take(&mut self.handed_out).into_iter();
        let mut spares = spares.map(Some).chain(repeat_with(|| None));
        let mut spare = || spares.next().flatten();
        let mut arrays: Vec<ArrayRef> = self.declared.iter_mut().map(|column| column.take(spare())).collect();
        arrays.push(take_values::<Date32Type>(&mut self.event_date, spare()));
        arrays.push(take_values::<Int32Type>(&mut self.partition, spare()));
        arrays.push(take_values::<Int64Type>(&mut self.offset, spare()));
        arrays.push(utc(self.kafka_timestamp.take::<TimestampMicrosecondType>(spare())));
        arrays.push(utc(take_primitive::<TimestampMicrosecondType>(
            &mut self.ingested_at,
            None,
            spare(),
        )));
        arrays.push(self.extra.take(spare()));
        arrays.push(self.topic.take(rows));
        arrays.push(match &mut self.element {
            ElementColumn::Positions(positions) => {
                let _topic = spare();
                take_values::<Int32Type>(positions, spare())
            }
            ElementColumn::Null(kept) => nulls(kept, rows),
        });
        if keep {
            self.handed_out.clone_from(&arrays);
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays);
        Some(batch.expect("columns and schema come from one declaration"))
    }
}

impl Topics {
    fn begin(&mut self, topic: &Arc<str>, row: usize) {
        match self.runs.last_mut() {
            Some((last, _)) if last == topic => {}
            // The run before it had no rows.
            Some((last, from)) if *from == row => last.clone_from(topic),
            _ => self.runs.push((Arc::clone(topic), row)),
        }
    }

    fn take(&mut self, rows: usize) -> ArrayRef {
        let topics = match self.runs.as_slice() {
            [(topic, _)] => match &self.kept {
                Some((kept, array)) if kept == topic && array.len() >= rows => array.slice(0, rows),
                _ => {
                    let array = StringArray::new_repeated(&**topic, rows + rows / 8);
                    let topics = array.slice(0, rows);
                    self.kept = Some((Arc::clone(topic), array));
                    topics
                }
            },
            runs => {
                let ends = runs.iter().skip(1).map(|(_, from)| *from).chain([rows]);
                let each = runs.iter().zip(ends);
                let each = each.flat_map(|((topic, from), to)| std::iter::repeat_n(&**topic, to - from));
                StringArray::from_iter_values(each)
            }
        };
        // The topic at hand goes on into the next batch.
        if let Some((topic, _)) = self.runs.pop() {
            self.runs.clear();
            self.runs.push((topic, 0));
        }
        Arc::new(topics)
    }
}

/// A column of nulls, cut from the last one where that is long enough.
fn nulls(kept: &mut Option<ArrayRef>, rows: usize) -> ArrayRef {
    match kept {
        Some(array) if array.len() >= rows => array.slice(0, rows),
        _ => kept
            .insert(new_null_array(&DataType::Int32, rows + rows / 8))
            .slice(0, rows),
    }
}

impl Column {
    fn new(field_type: &FieldType, nullable: bool) -> Self {
        match field_type {
            FieldType::String | FieldType::Time | FieldType::Json => Column::Text(Texts::new(nullable)),
            FieldType::Integer => Column::Integer(Primitives::new(nullable)),
            FieldType::Long => Column::Long(Primitives::new(nullable)),
            FieldType::Double => Column::Double(Primitives::new(nullable)),
            FieldType::Boolean => Column::Boolean(Booleans {
                values: BooleanBufferBuilder::new(0),
                nulls: Nulls::new(nullable),
            }),
            FieldType::Timestamp => Column::Timestamp(Primitives::new(nullable)),
            FieldType::Date => Column::Date(Primitives::new(nullable)),
            FieldType::Decimal { .. } => Column::Decimal(Primitives::new(nullable), field_type.arrow()),
            FieldType::Binary => Column::Binary(Texts::new(nullable)),
            FieldType::Array(_) | FieldType::Map(_) | FieldType::Struct(_) => {
                Column::Nested(Box::new(Nested::new(field_type, nullable)))
            }
        }
    }

    /// Appends a value of a type that few fields have, or a null.
    fn append_rare(&mut self, record: &[u8], scratch: &Scratch, value: Value) {
        match (self, value) {
            (Column::Date(days), Value::Integer(day)) => days.append(day as i32),
            (Column::Decimal(decimals, _), Value::Decimal { at }) => decimals.append(scratch.decimal(at)),
            (Column::Binary(bytes), Value::Unescaped { start, end }) => bytes.append(&scratch.bytes, start, end),
            (Column::Nested(nested), Value::Nested { at, .. }) => {
                nested.append(record, scratch, at as usize);
            }
            (column, value) => {
                debug_assert_eq!(value, Value::Null);
                column.append_null();
            }
        }
    }

    /// Appends the part of a nested value that begins at `at` of [`Scratch::nested`]; where the next one begins.
    fn append_part(&mut self, record: &[u8], scratch: &Scratch, at: usize) -> usize {
        let value = scratch.nested[at];
        match (&mut *self, value) {
            (Column::Nested(nested), Value::Items(_) | Value::Members(_)) => return nested.append(record, scratch, at),
            (Column::Text(texts), Value::Text { start, end }) => texts.append(record, start, end),
            (Column::Text(texts), Value::Unescaped { start, end }) => texts.append(&scratch.bytes, start, end),
            (Column::Double(doubles), Value::Double(double)) => doubles.append(double),
            (Column::Integer(integers), Value::Integer(integer)) => integers.append(integer as i32),
            (Column::Long(longs) | Column::Timestamp(longs), Value::Integer(long)) => longs.append(long),
            (Column::Boolean(booleans), Value::Boolean(boolean)) => {
                booleans.values.append(boolean);
                booleans.nulls.append(true);
            }
            (column, value) => column.append_rare(record, scratch, value),
        }
        at + 1
    }

    fn len(&self) -> usize {
        match self {
            Column::Text(texts) | Column::Binary(texts) => texts.offsets.len() - 1,
            Column::Integer(values) | Column::Date(values) => values.values.len(),
            Column::Long(values) | Column::Timestamp(values) => values.values.len(),
            Column::Double(values) => values.values.len(),
            Column::Decimal(values, _) => values.values.len(),
            Column::Boolean(booleans) => booleans.values.len(),
            Column::Nested(nested) => nested.len(),
        }
    }

    fn append_null(&mut self) {
        match self {
            Column::Text(texts) | Column::Binary(texts) => texts.append_null(),
            Column::Integer(values) | Column::Date(values) => values.append_null(),
            Column::Decimal(decimals, _) => decimals.append_null(),
            Column::Nested(nested) => nested.append_null(),
            Column::Long(values) | Column::Timestamp(values) => values.append_null(),
            Column::Double(doubles) => doubles.append_null(),
            Column::Boolean(booleans) => {
                booleans.values.append(false);
                booleans.nulls.append(false);
            }
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Column::Text(texts) | Column::Binary(texts) => texts.truncate(rows),
            Column::Integer(values) | Column::Date(values) => values.truncate(rows),
            Column::Decimal(decimals, _) => decimals.truncate(rows),
            Column::Nested(nested) => nested.truncate(rows),
            Column::Long(values) | Column::Timestamp(values) => values.truncate(rows),
            Column::Double(doubles) => doubles.truncate(rows),
            Column::Boolean(booleans) => {
                booleans.values.truncate(rows);
                booleans.nulls.truncate(rows);
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Column::Text(texts) | Column::Binary(texts) => texts.bytes(),
            Column::Integer(values) | Column::Date(values) => size_of_val(values.values.as_slice()),
            Column::Decimal(decimals, _) => size_of_val(decimals.values.as_slice()),
            Column::Nested(nested) => nested.bytes(),
            Column::Long(values) | Column::Timestamp(values) => size_of_val(values.values.as_slice()),
            Column::Double(doubles) => size_of_val(doubles.values.as_slice()),
            Column::Boolean(booleans) => booleans.values.len() / 8,
        }
    }

    fn take(&mut self, spare: Option<ArrayRef>) -> ArrayRef {
        match self {
            Column::Text(texts) => texts.take(spare),
            Column::Integer(integers) => Arc::new(integers.take::<Int32Type>(spare)),
            Column::Long(longs) => Arc::new(longs.take::<Int64Type>(spare)),
            Column::Double(doubles) => Arc::new(doubles.take::<Float64Type>(spare)),
            Column::Boolean(booleans) => {
                let rows = booleans.values.len();
                let values = replace(&mut booleans.values, BooleanBufferBuilder::new(rows)).build();
                Arc::new(BooleanArray::new(values, booleans.nulls.take()))
            }
            Column::Timestamp(instants) => utc(instants.take::<TimestampMicrosecondType>(spare)),
            Column::Date(days) => Arc::new(days.take::<Date32Type>(spare)),
            Column::Decimal(decimals, data_type) => {
                let units = decimals.take::<Decimal128Type>(spare);
                Arc::new(units.with_data_type(data_type.clone()))
            }
            Column::Binary(bytes) => bytes.take_binary(),
            // What it is made of has no place to wait in for the batch after next.
            Column::Nested(nested) => nested.take(),
        }
    }
}

impl<T: Default> Primitives<T> {
    fn new(nullable: bool) -> Self {
        Self {
            values: Vec::new(),
            nulls: Nulls::new(nullable),
        }
    }

    #[inline]
    fn append(&mut self, value: T) {
        self.values.push(value);
        self.nulls.append(true);
    }

    fn append_null(&mut self) {
        self.values.push(T::default());
        self.nulls.append(false);
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.truncate(rows);
    }

    fn take<A: ArrowPrimitiveType<Native = T>>(&mut self, spare: Option<ArrayRef>) -> PrimitiveArray<A> {
        take_primitive(&mut self.values, self.nulls.take(), spare)
    }
}

impl Texts {
    fn new(nullable: bool) -> Self {
        Self {
            offsets: vec![0],
            bytes: Vec::new(),
            nulls: Nulls::new(nullable),
        }
    }

    /// Appends `text[start..end]`.
    #[inline]
    fn append(&mut self, text: &[u8], start: u32, end: u32) {
        let (start, end) = (start as usize, end as usize);
        let len = end - start;
        // Most texts are short, and copying a fixed number of bytes takes no call.
        if len <= SHORT {
            self.append_padded::<SHORT>(text, start, len);
        } else {
            self.append_padded::<MEDIUM>(text, start, len);
        }
        self.end(true);
    }

    /// Appends `N` bytes and takes back those beyond `len`; or `len` bytes where that is more, or `N` are not there.
    #[inline]
    fn append_padded<const N: usize>(&mut self, text: &[u8], start: usize, len: usize) {
        match text.get(start..start + N) {
            Some(padded) if len <= N => {
                let before = self.bytes.len();
                self.bytes.extend_from_slice(padded);
                self.bytes.truncate(before + len);
            }
            _ => self.bytes.extend_from_slice(&text[start..start + len]),
        }
    }

    fn append_null(&mut self) {
        self.end(false);
    }

    #[inline]
    fn end(&mut self, valid: bool) {
        // `Decoder::decode` refuses to come near 2 GiB.
        self.offsets.push(self.bytes.len() as i32);
        self.nulls.append(valid);
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.bytes.truncate(self.offsets.last().map_or(0, |end| *end as usize));
        self.nulls.truncate(rows);
    }

    fn bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&self.offsets[1..])
    }

    fn take(&mut self, spare: Option<ArrayRef>) -> ArrayRef {
        let spare = spare.map(|array| {
            let texts = array.as_string::<i32>().clone();
            drop(array);
            let (offsets, bytes, _) = texts.into_parts();
            (offsets.into_inner().into_inner(), bytes)
        });
        let (offsets, bytes) = spare.unzip();
        let mut offsets = room_for(self.offsets.len(), offsets);
        offsets.push(0);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(replace(&mut self.offsets, offsets)));
        let bytes = room_for(self.bytes.len(), bytes);
        let bytes = replace(&mut self.bytes, bytes);
        let array = StringArray::try_new(offsets, bytes.into(), self.nulls.take());
        Arc::new(array.expect("records are checked to be UTF-8"))
    }
}

impl Texts {
    fn take_binary(&mut self) -> ArrayRef {
        let next = room_for(self.offsets.len(), None);
        let offsets = replace(&mut self.offsets, next);
        self.offsets.push(0);
        let bytes = room_for(self.bytes.len(), None);
        let bytes = replace(&mut self.bytes, bytes);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Arc::new(BinaryArray::new(offsets, bytes.into(), self.nulls.take()))
    }
}

impl Nulls {
    fn new(nullable: bool) -> Self {
        // No memory is taken before the first null.
        Self(nullable.then(|| NullBufferBuilder::new(0)))
    }

    #[inline]
    fn append(&mut self, valid: bool) {
        match &mut self.0 {
            Some(nulls) => nulls.append(valid),
            None => debug_assert!(valid),
        }
    }

    fn truncate(&mut self, rows: usize) {
        if let Some(nulls) = &mut self.0 {
            nulls.truncate(rows);
        }
    }

    fn take(&mut self) -> Option<arrow_buffer::NullBuffer> {
        self.0.as_mut().and_then(take_nulls)
    }
}

fn take_nulls(nulls: &mut NullBufferBuilder) -> Option<arrow_buffer::NullBuffer> {
    let capacity = nulls.len();
    replace(nulls, NullBufferBuilder::new(capacity)).build()
}

/// An empty buffer for as much as the last batch had, and a little more: to outgrow it by a few rows would copy all of
/// them. It is the spare one, unless someone still reads that, or it is too small, or far too large.
fn room_for<T: ArrowNativeType>(len: usize, spare: Option<Buffer>) -> Vec<T> {
    let spare = spare.and_then(|buffer| buffer.into_vec().ok());
    let fits = |spare: &Vec<T>| (len..=len * 4).contains(&spare.capacity());
    match spare.filter(fits) {
        Some(mut spare) => {
            spare.clear();
            spare
        }
        None => Vec::with_capacity(len + len / 8),
    }
}

fn take_primitive<A: ArrowPrimitiveType>(
    values: &mut Vec<A::Native>,
    nulls: Option<arrow_buffer::NullBuffer>,
    spare: Option<ArrayRef>,
) -> PrimitiveArray<A> {
    let spare = spare.map(|array| {
        let values = array.as_primitive::<A>().clone();
        drop(array);
        values.into_parts().1.into_inner()
    });
    let next = room_for(values.len(), spare);
    PrimitiveArray::new(ScalarBuffer::from(replace(values, next)), nulls)
}

fn take_values<A: ArrowPrimitiveType>(values: &mut Vec<A::Native>, spare: Option<ArrayRef>) -> ArrayRef {
    Arc::new(take_primitive::<A>(values, None, spare))
}

fn utc(instants: PrimitiveArray<TimestampMicrosecondType>) -> ArrayRef {
    Arc::new(instants.with_timezone("UTC"))
}
