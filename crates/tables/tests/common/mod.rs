//! Arbitrary tables: any type, with nulls, sliced.
#![allow(clippy::unwrap_used, reason = "in a test a value that is not there is the failure")]
#![allow(dead_code, reason = "each test uses some of it")]

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray,
    FixedSizeListArray, GenericListArray, GenericListViewArray, LargeBinaryArray, LargeStringArray,
    MapArray, NullArray, OffsetSizeTrait, PrimitiveArray, RecordBatch, RecordBatchOptions,
    RunArray, StringArray, StringViewArray, StructArray, UnionArray, make_array, types::*,
};
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, Buffer, IntervalDayTime, IntervalMonthDayNano, NullBuffer,
    OffsetBuffer, ScalarBuffer, i256,
};
use arrow_schema::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, TimeUnit, UnionMode};
use exuvia_tables::Table;
use half::f16;
use proptest::prelude::*;

/// Numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

fn leaf(for_parquet: bool) -> BoxedStrategy<DataType> {
    use DataType::*;
    use TimeUnit::*;
    let zone = |zone: &str| Some(zone.into());
    let mut types = vec![
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float16,
        Float32,
        Float64,
        Utf8,
        LargeUtf8,
        Utf8View,
        Binary,
        LargeBinary,
        BinaryView,
        FixedSizeBinary(3),
        Date32,
        Date64,
        Time32(Second),
        Time32(Millisecond),
        Time64(Microsecond),
        Time64(Nanosecond),
        Timestamp(Second, None),
        Timestamp(Millisecond, zone("UTC")),
        Timestamp(Microsecond, zone("Europe/Berlin")),
        Timestamp(Nanosecond, zone("+05:30")),
        Timestamp(Nanosecond, None),
        Duration(Second),
        Duration(Nanosecond),
        Decimal32(7, 2),
        Decimal64(15, 3),
        Decimal128(38, 10),
        Decimal256(70, 3),
        Null,
        Dictionary(Box::new(Int32), Box::new(Utf8)),
        Dictionary(Box::new(Int8), Box::new(Utf8)),
        Dictionary(Box::new(UInt16), Box::new(Int64)),
        Dictionary(Box::new(Int32), Box::new(Timestamp(Second, zone("UTC")))),
    ];
    if !for_parquet {
        types.extend([
            Interval(IntervalUnit::YearMonth),
            Interval(IntervalUnit::DayTime),
            Interval(IntervalUnit::MonthDayNano),
            FixedSizeBinary(0),
            Decimal128(20, -3),
            Dictionary(Box::new(Int64), Box::new(LargeUtf8)),
        ]);
    }
    prop::sample::select(types).boxed()
}

fn field(name: &str, data_type: DataType, nullable: bool) -> FieldRef {
    // These have nulls without saying so.
    let hides_nulls =
        matches!(data_type, DataType::Null | DataType::RunEndEncoded(..) | DataType::Union(..));
    let nullable = nullable || hides_nulls;
    Arc::new(Field::new(name, data_type, nullable))
}

/// Any type; for Parquet one that it can hold.
pub(crate) fn data_type(for_parquet: bool) -> BoxedStrategy<DataType> {
    leaf(for_parquet)
        .prop_recursive(3, 12, 3, move |inner| {
            let item = (inner.clone(), any::<bool>());
            let list = |make: fn(FieldRef) -> DataType| {
                item.clone().prop_map(move |(t, n)| make(field("item", t, n))).boxed()
            };
            let children = prop::collection::vec((inner.clone(), any::<bool>()), 1..3);
            let structs = children.clone().prop_map(|children| {
                let child = |(i, (t, n))| field(&format!("f{i}"), t, n);
                DataType::Struct(children.into_iter().enumerate().map(child).collect())
            });
            let maps = inner.clone().prop_map(|values| {
                let entries = Fields::from(vec![
                    field("key", DataType::Utf8, false),
                    field("value", values, true),
                ]);
                DataType::Map(field("entries", DataType::Struct(entries), false), false)
            });
            let fixed =
                item.clone().prop_map(|(t, n)| DataType::FixedSizeList(field("item", t, n), 2));
            let mut all = vec![
                list(DataType::List),
                list(DataType::LargeList),
                structs.boxed(),
                maps.boxed(),
            ];
            if for_parquet {
                all.push(fixed.boxed());
            } else {
                all.extend([
                    fixed.boxed(),
                    list(DataType::ListView),
                    list(DataType::LargeListView),
                    Just(DataType::Struct(Fields::empty())).boxed(),
                ]);
            }
            prop::strategy::Union::new(all)
        })
        .boxed()
}

/// Runs; as columns only, since a list that has no items may hold runs that IPC cannot write.
fn runs() -> impl Strategy<Value = DataType> {
    leaf(false).prop_map(|values| {
        let ends = field("run_ends", DataType::Int32, false);
        DataType::RunEndEncoded(ends, field("values", values, true))
    })
}

/// Unions; as columns only, since the encoder writes slices of nested ones with children too long.
fn unions() -> impl Strategy<Value = DataType> {
    (prop::collection::vec(leaf(false), 1..3), any::<bool>()).prop_map(|(children, dense)| {
        let mode = if dense { UnionMode::Dense } else { UnionMode::Sparse };
        let child = |(i, t)| (i as i8, field(&format!("u{i}"), t, true));
        DataType::Union(children.into_iter().enumerate().map(child).collect(), mode)
    })
}

/// A table of several batches; each is cut out of a larger one.
pub(crate) fn table(for_parquet: bool) -> impl Strategy<Value = Table> {
    let column = data_type(for_parquet);
    let column = if for_parquet {
        column
    } else {
        prop_oneof![8 => column, 1 => runs(), 1 => unions()].boxed()
    };
    let columns = prop::collection::vec((column, any::<bool>()), 1..5);
    let batches = prop::collection::vec((0..40_usize, 0..9_usize, 0..9_usize), 0..4);
    (columns, batches, any::<u64>()).prop_map(|(columns, batches, seed)| {
        let column = |(i, (t, n))| field(&format!("c{i}"), t, n);
        let fields: Fields = columns.into_iter().enumerate().map(column).collect();
        let schema =
            Arc::new(Schema::new(fields).with_metadata([("k".to_owned(), "v".to_owned())].into()));
        let mut dice = Dice::new(seed);
        let batches = batches.into_iter().map(|(rows, before, after)| {
            let columns = schema.fields().iter().map(|field| {
                array(field.data_type(), field.is_nullable(), rows + before + after, &mut dice)
            });
            let columns: Vec<_> = columns.collect();
            let options = RecordBatchOptions::new().with_row_count(Some(rows + before + after));
            RecordBatch::try_new_with_options(schema.clone(), columns, &options)
                .unwrap()
                .slice(before, rows)
        });
        let batches = batches.collect();
        Table { schema, batches }
    })
}

fn nulls(nullable: bool, len: usize, dice: &mut Dice) -> Option<NullBuffer> {
    // Sometimes there are none, though there might be.
    let some = nullable && dice.below(4) > 0;
    some.then(|| (0..len).map(|_| dice.below(3) > 0).collect::<Vec<bool>>().into())
}

fn text(dice: &mut Dice) -> String {
    let words = ["", "a", "snow ☃", "a longer text than fits a view", "\u{0}", "ß"];
    words[dice.below(words.len())].to_owned()
}

fn primitive<T: ArrowPrimitiveType>(
    data_type: &DataType,
    nulls: Option<NullBuffer>,
    len: usize,
    mut value: impl FnMut() -> T::Native,
) -> ArrayRef {
    let values: ScalarBuffer<T::Native> = (0..len).map(|_| value()).collect();
    Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(data_type.clone()))
}

/// An array of any type.
pub(crate) fn array(data_type: &DataType, nullable: bool, len: usize, dice: &mut Dice) -> ArrayRef {
    use DataType::*;
    let valid = nulls(nullable, len, dice);
    let d = data_type;
    macro_rules! ints {
        ($($name:ident: $type:ty),*) => {
            match data_type {
                $($name => return primitive::<$type>(d, valid, len, || dice.next() as _),)*
                _ => {}
            }
        };
    }
    ints!(Int8: Int8Type, Int16: Int16Type, Int32: Int32Type, Int64: Int64Type, UInt8: UInt8Type,
        UInt16: UInt16Type, UInt32: UInt32Type, UInt64: UInt64Type);
    let day = 86_400;
    match data_type {
        Float16 => primitive::<Float16Type>(d, valid, len, || f16::from_bits(dice.next() as u16)),
        Float32 => primitive::<Float32Type>(d, valid, len, || f32::from_bits(dice.next() as u32)),
        Float64 => primitive::<Float64Type>(d, valid, len, || {
            [f64::NAN, -0.0, f64::INFINITY, f64::from_bits(dice.next())][dice.below(4)]
        }),
        Date32 => primitive::<Date32Type>(d, valid, len, || dice.below(40_000) as i32),
        Date64 => primitive::<Date64Type>(d, valid, len, || dice.below(40_000) as i64 * day * 1000),
        Time32(TimeUnit::Second) => {
            primitive::<Time32SecondType>(d, valid, len, || dice.below(86_400) as i32)
        }
        Time32(_) => {
            primitive::<Time32MillisecondType>(d, valid, len, || dice.below(86_400_000) as i32)
        }
        Time64(TimeUnit::Microsecond) => {
            primitive::<Time64MicrosecondType>(d, valid, len, || dice.below(86_400_000_000) as i64)
        }
        Time64(_) => {
            primitive::<Time64NanosecondType>(d, valid, len, || dice.below(86_400_000_000) as i64)
        }
        Timestamp(unit, _) => {
            let mut value = || dice.next() as i64 >> 8;
            match unit {
                // In Parquet they are milliseconds.
                TimeUnit::Second => {
                    primitive::<TimestampSecondType>(d, valid, len, || value() >> 10)
                }
                TimeUnit::Millisecond => {
                    primitive::<TimestampMillisecondType>(d, valid, len, value)
                }
                TimeUnit::Microsecond => {
                    primitive::<TimestampMicrosecondType>(d, valid, len, value)
                }
                TimeUnit::Nanosecond => {
                    primitive::<TimestampNanosecondType>(d, valid, len, &mut value)
                }
            }
        }
        Duration(TimeUnit::Second) => {
            primitive::<DurationSecondType>(d, valid, len, || dice.next() as i64)
        }
        Duration(_) => primitive::<DurationNanosecondType>(d, valid, len, || dice.next() as i64),
        Interval(IntervalUnit::YearMonth) => {
            primitive::<IntervalYearMonthType>(d, valid, len, || dice.next() as i32)
        }
        Interval(IntervalUnit::DayTime) => primitive::<IntervalDayTimeType>(d, valid, len, || {
            IntervalDayTime::new(dice.next() as i32, dice.next() as i32)
        }),
        Interval(IntervalUnit::MonthDayNano) => {
            primitive::<IntervalMonthDayNanoType>(d, valid, len, || {
                IntervalMonthDayNano::new(
                    dice.next() as i32,
                    dice.next() as i32,
                    dice.next() as i64,
                )
            })
        }
        Decimal32(..) => primitive::<Decimal32Type>(d, valid, len, || dice.below(9_999_999) as i32),
        Decimal64(..) => {
            primitive::<Decimal64Type>(d, valid, len, || -(dice.below(1 << 40) as i64))
        }
        Decimal128(precision, _) => {
            let more = if *precision == 38 { 40 } else { 0 };
            primitive::<Decimal128Type>(d, valid, len, || i128::from(dice.next()) << more)
        }
        Decimal256(..) => {
            primitive::<Decimal256Type>(d, valid, len, || i256::from_i128(i128::from(dice.next())))
        }
        Boolean => {
            let values: BooleanBuffer = (0..len).map(|_| dice.below(2) == 0).collect();
            Arc::new(BooleanArray::new(values, valid))
        }
        Null => Arc::new(NullArray::new(len)),
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => {
            let is_valid = |row| valid.as_ref().is_none_or(|valid| valid.is_valid(row));
            let texts: Vec<_> = (0..len).map(|row| is_valid(row).then(|| text(dice))).collect();
            let bytes = texts.iter().map(|text| text.as_ref().map(String::as_bytes));
            match data_type {
                Utf8 => Arc::new(StringArray::from(texts.clone())),
                LargeUtf8 => Arc::new(LargeStringArray::from(texts.clone())),
                Utf8View => Arc::new(StringViewArray::from_iter(texts.clone())),
                Binary => Arc::new(bytes.collect::<BinaryArray>()),
                LargeBinary => Arc::new(bytes.collect::<LargeBinaryArray>()),
                _ => Arc::new(bytes.collect::<arrow_array::BinaryViewArray>()),
            }
        }
        FixedSizeBinary(width) => {
            let bytes: Vec<u8> = (0..len * *width as usize).map(|_| dice.next() as u8).collect();
            Arc::new(
                FixedSizeBinaryArray::try_new_with_len(*width, bytes.into(), valid, len).unwrap(),
            )
        }
        List(item) => lists::<i32>(item, valid, len, dice),
        LargeList(item) => lists::<i64>(item, valid, len, dice),
        ListView(item) => views::<i32>(item, valid, len, dice),
        LargeListView(item) => views::<i64>(item, valid, len, dice),
        FixedSizeList(item, size) => {
            let items = array(item.data_type(), item.is_nullable(), len * *size as usize, dice);
            Arc::new(FixedSizeListArray::new(item.clone(), *size, items, valid))
        }
        Struct(fields) if fields.is_empty() => Arc::new(StructArray::new_empty_fields(len, valid)),
        Struct(fields) => {
            Arc::new(StructArray::new(fields.clone(), children(fields, len, dice), valid))
        }
        Map(entries, _) => {
            let offsets = offsets::<i32>(len, dice);
            let Struct(fields) = entries.data_type() else { unreachable!() };
            let columns = children(fields, offsets.last().unwrap().as_usize(), dice);
            let inner = StructArray::new(fields.clone(), columns, None);
            Arc::new(MapArray::new(entries.clone(), offsets, inner, valid, false))
        }
        Dictionary(keys, values) => {
            let values = array(values, false, 5, dice);
            let keys_of = |dice: &mut Dice| dice.below(5);
            macro_rules! keyed {
                ($type:ty) => {{
                    let keys = (0..len).map(|_| keys_of(dice) as _).collect::<ScalarBuffer<_>>();
                    let keys = PrimitiveArray::<$type>::new(keys, valid);
                    Arc::new(DictionaryArray::new(keys, values)) as ArrayRef
                }};
            }
            match keys.as_ref() {
                Int8 => keyed!(Int8Type),
                UInt16 => keyed!(UInt16Type),
                Int64 => keyed!(Int64Type),
                _ => keyed!(Int32Type),
            }
        }
        RunEndEncoded(_, values) => {
            let runs = if len == 0 { 0 } else { 1 + dice.below(len) };
            let mut ends: Vec<i32> = (0..runs as i32).map(|run| run + 1).collect();
            if let Some(last) = ends.last_mut() {
                *last = len as i32;
            }
            let values = array(values.data_type(), true, runs, dice);
            let runs = RunArray::<Int32Type>::try_new(&ends.into(), &values).unwrap();
            // Under the names that the type gives its parts.
            let data = runs.into_data().into_builder().data_type(data_type.clone());
            make_array(data.build().unwrap())
        }
        Union(fields, mode) => {
            let ids: Vec<i8> = (0..len).map(|_| dice.below(fields.len()) as i8).collect();
            let columns =
                fields.iter().map(|(_, field)| array(field.data_type(), true, len, dice)).collect();
            let offsets =
                (*mode == UnionMode::Dense).then(|| (0..len as i32).collect::<ScalarBuffer<i32>>());
            Arc::new(UnionArray::try_new(fields.clone(), ids.into(), offsets, columns).unwrap())
        }
        other => unreachable!("{other}"),
    }
}

fn children(fields: &Fields, len: usize, dice: &mut Dice) -> Vec<ArrayRef> {
    let child = |field: &FieldRef| array(field.data_type(), field.is_nullable(), len, dice);
    fields.iter().map(child).collect()
}

fn offsets<O: OffsetSizeTrait>(len: usize, dice: &mut Dice) -> OffsetBuffer<O> {
    OffsetBuffer::from_lengths((0..len).map(|_| dice.below(3)))
}

fn lists<O: OffsetSizeTrait>(
    item: &FieldRef,
    valid: Option<NullBuffer>,
    len: usize,
    dice: &mut Dice,
) -> ArrayRef {
    let offsets = offsets::<O>(len, dice);
    let items = offsets.last().unwrap().as_usize();
    let items = array(item.data_type(), item.is_nullable(), items, dice);
    Arc::new(GenericListArray::<O>::new(item.clone(), offsets, items, valid))
}

fn views<O: OffsetSizeTrait>(
    item: &FieldRef,
    valid: Option<NullBuffer>,
    len: usize,
    dice: &mut Dice,
) -> ArrayRef {
    let items = array(item.data_type(), item.is_nullable(), 10, dice);
    let starts: ScalarBuffer<O> = (0..len).map(|_| O::usize_as(dice.below(8))).collect();
    let sizes: ScalarBuffer<O> = (0..len).map(|_| O::usize_as(dice.below(3))).collect();
    Arc::new(GenericListViewArray::<O>::new(item.clone(), starts, sizes, items, valid))
}

/// Bytes as a buffer that begins at a multiple of 64, as a map does.
pub(crate) fn aligned(bytes: &[u8]) -> Buffer {
    Buffer::from(bytes)
}
