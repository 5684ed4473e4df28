//! CSV and JSON: what is read of them, and what is written.
#![allow(clippy::unwrap_used, reason = "in a test a value that is not there is the failure")]

use std::{
    io::{self, Read},
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    DurationMillisecondArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMillisecondArray, TimestampSecondArray,
    types::{Float64Type, Int32Type},
};
use arrow_buffer::Buffer;
use arrow_cast::display::array_value_to_string;
use exuvia_tables::{Format, Limits, Table, Writer, open, read, write};

fn table(columns: Vec<(&str, ArrayRef)>) -> Table {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    Table { schema: batch.schema(), batches: vec![batch] }
}

fn parsed(format: Format, text: &str) -> Table {
    read(format, &Buffer::from(text.as_bytes()), &Limits::default()).unwrap().table
}

fn refused(format: Format, text: &[u8]) -> String {
    read(format, &Buffer::from(text), &Limits::default()).unwrap_err().to_string()
}

fn written(format: Format, table: &Table) -> Result<String, String> {
    let mut out = Vec::new();
    write(format, table, &mut out).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

/// Each column as `name: type = values`.
fn shown(table: &Table) -> Vec<String> {
    let batch = table.concat().unwrap();
    let column = |(field, column): (&Arc<arrow_schema::Field>, &ArrayRef)| {
        let value = |row| match column.is_null(row) || column.data_type().is_null() {
            true => "null".to_owned(),
            false => array_value_to_string(column, row).unwrap(),
        };
        let values: Vec<_> = (0..column.len()).map(value).collect();
        format!("{}: {} = {}", field.name(), field.data_type(), values.join(" "))
    };
    table.schema.fields().iter().zip(batch.columns()).map(column).collect()
}

#[test]
fn csv_types_are_those_that_hold_every_row() {
    let text = "\u{feff}i,f,b,d,t,z,s,e\r\n\
        1,1,true,2010-07-28,2010-01-01 00:00:00,2010-01-01T00:00:00.5+01:00,x,\r\n\
        ,NaN,FALSE,,,,,\r\n\
        -3,inf,,2010-07-29,2010-01-01T12:30:00,2010-01-01T00:00:00Z,\"a, \"\"b\"\"\nc\",\r\n";
    assert_eq!(
        shown(&parsed(Format::Csv, text)),
        [
            "i: Int64 = 1 null -3",
            "f: Float64 = 1.0 NaN inf",
            "b: Boolean = true false null",
            "d: Date32 = 2010-07-28 null 2010-07-29",
            "t: Timestamp(s) = 2010-01-01T00:00:00 null 2010-01-01T12:30:00",
            "z: Timestamp(ms, \"UTC\") = 2009-12-31T23:00:00.500Z null 2010-01-01T00:00:00Z",
            "s: Utf8 = x null a, \"b\"\nc",
            "e: Null = null null null",
        ]
    );
}

#[test]
fn a_last_row_without_an_end_and_a_table_without_rows_are_read() {
    assert_eq!(shown(&parsed(Format::Csv, "a,b\n1,2")), ["a: Int64 = 1", "b: Int64 = 2"]);
    assert_eq!(shown(&parsed(Format::Csv, "a,b\n")), ["a: Null = ", "b: Null = "]);
    assert_eq!(shown(&parsed(Format::Csv, "a")), ["a: Null = "]);
    assert_eq!(shown(&parsed(Format::Csv, "a\r1\r2\r")), ["a: Int64 = 1 2"]);
}

#[test]
fn csv_of_many_batches_is_one_table() {
    let mut text = "n\n".to_owned();
    (0..1000).for_each(|n| text.push_str(&format!("{n}\n")));
    let limits = Limits { batch_rows: 64, ..Limits::default() };
    let table = read(Format::Csv, &Buffer::from(text.as_bytes()), &limits).unwrap().table;
    assert!(table.batches.len() > 10);
    let batch = table.concat().unwrap();
    let numbers: &Int64Array = batch.column(0).as_any().downcast_ref().unwrap();
    assert!(numbers.values().iter().copied().eq(0..1000));
}

#[test]
fn what_is_wrong_with_csv_is_said_with_its_line() {
    for (text, said) in [
        (b"a,b\n1,2\n3\n".as_slice(), "line 3"),
        (b"a,b\n1,2\n3,4,5\n", "line 3"),
        (b"a,b\n1,2\n3,\xff\n", "line 3"),
        (b"\xff,b\n1,2\n", "line 1"),
        (b"", "no header"),
    ] {
        let error = refused(Format::Csv, text);
        assert!(error.contains("CSV") && error.contains(said), "{error}");
    }
}

#[test]
fn csv_is_written_so_that_null_and_empty_text_stay_apart() {
    let table = table(vec![
        ("s", Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some("b,\"c\"\n")]))),
        ("f", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN), Some(-0.0)]))),
        ("i", Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(i64::MIN)]))),
    ]);
    assert_eq!(
        written(Format::Csv, &table).unwrap(),
        "s,f,i\r\na,1.5,1\r\n,,\r\n\"\",NaN,3\r\n\"b,\"\"c\"\"\n\",-0.0,-9223372036854775808\r\n"
    );
}

#[test]
fn csv_keeps_numbers_times_and_dates() {
    let times = TimestampMillisecondArray::from(vec![1_280_275_200_000, 1_280_275_200_500]);
    let table = table(vec![
        ("f", Arc::new(Float64Array::from(vec![0.1, 1e300]))),
        ("d", Arc::new(Date32Array::from(vec![14_818, -1]))),
        ("t", Arc::new(times.clone())),
        ("z", Arc::new(times.with_timezone("UTC"))),
        ("b", Arc::new(BooleanArray::from(vec![true, false]))),
    ]);
    let text = written(Format::Csv, &table).unwrap();
    assert!(text.contains("2010-07-28T00:00:00.500000+00:00"), "{text}");
    let back = parsed(Format::Csv, &text);
    assert_eq!(shown(&back)[0], "f: Float64 = 0.1 1e300");
    assert_eq!(shown(&back)[1], "d: Date32 = 2010-07-28 1969-12-31");
    // The fraction is written with six digits, as Python does.
    assert_eq!(shown(&back)[2], "t: Timestamp(µs) = 2010-07-28T00:00:00 2010-07-28T00:00:00.500");
    assert!(shown(&back)[3].starts_with("z: Timestamp(µs, \"UTC\")"));
    assert_eq!(shown(&back)[4], "b: Boolean = true false");
}

#[test]
fn a_column_that_has_no_place_in_text_is_named() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    let nested = table(vec![("l", Arc::new(list))]);
    let binary = table(vec![("b", Arc::new(BinaryArray::from(vec![b"x".as_slice()])))]);
    let error = written(Format::Csv, &nested).unwrap_err();
    assert!(error.contains("column \"l\" is nested"), "{error}");
    for format in [Format::Csv, Format::JsonRows, Format::JsonColumns, Format::Ndjson] {
        let error = written(format, &binary).unwrap_err();
        assert!(error.contains("column \"b\" is binary") && error.contains("base64"), "{error}");
    }
}

fn mixed() -> Table {
    let decimals = Decimal128Array::from(vec![Some(12_345), None]);
    let items = vec![Some(vec![Some(1.0), None]), None];
    table(vec![
        ("i", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("f", Arc::new(Float64Array::from(vec![Some(2.5), Some(f64::NAN)]))),
        ("s", Arc::new(StringArray::from(vec![Some("é\"\n"), None]))),
        ("t", Arc::new(TimestampSecondArray::from(vec![Some(1_280_275_200), None]))),
        ("z", Arc::new(TimestampMillisecondArray::from(vec![500, 0]).with_timezone("+00:00"))),
        ("d", Arc::new(decimals.with_precision_and_scale(9, 2).unwrap())),
        ("l", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(items))),
        ("u", Arc::new(DurationMillisecondArray::from(vec![Some(1500), None]))),
    ])
}

#[test]
fn json_has_explicit_nulls_and_times_like_isoformat() {
    let first = "\"i\":1,\"f\":2.5,\"s\":\"é\\\"\\n\",\"t\":\"2010-07-28T00:00:00\",\
        \"z\":\"1970-01-01T00:00:00.500000+00:00\",\"d\":\"123.45\",\"l\":[1.0,null],\
        \"u\":\"PT1.5S\"";
    let second = "\"i\":null,\"f\":null,\"s\":null,\"t\":null,\
        \"z\":\"1970-01-01T00:00:00+00:00\",\"d\":null,\"l\":null,\"u\":null";
    assert_eq!(written(Format::JsonRows, &mixed()).unwrap(), format!("[{{{first}}},{{{second}}}]"));
    assert_eq!(written(Format::Ndjson, &mixed()).unwrap(), format!("{{{first}}}\n{{{second}}}\n"));
    let columns = written(Format::JsonColumns, &mixed()).unwrap();
    assert!(columns.starts_with("{\"i\":[1,null],\"f\":[2.5,null],"), "{columns}");
    assert!(columns.ends_with(",\"u\":[\"PT1.5S\",null]}"), "{columns}");
}

#[test]
fn an_infinity_is_refused_by_column_and_row() {
    let floats = Float64Array::from(vec![Some(1.0), None, Some(f64::INFINITY)]);
    let lists = [Some([Some(1.0)]), None, Some([Some(f64::NEG_INFINITY)])];
    let lists = ListArray::from_iter_primitive::<Float64Type, _, _>(lists);
    let columns: [ArrayRef; 2] = [Arc::new(floats), Arc::new(lists)];
    for column in columns {
        for format in [Format::JsonRows, Format::JsonColumns, Format::Ndjson] {
            let error = written(format, &table(vec![("x", column.clone())])).unwrap_err();
            assert!(error.contains("column \"x\" has an infinity in row 2"), "{error}");
        }
    }
}

#[test]
fn two_columns_of_one_name_have_no_place_in_an_object() {
    let ones: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let error = written(Format::JsonRows, &table(vec![("a", ones.clone()), ("a", ones)]));
    assert!(error.unwrap_err().contains("two columns are named \"a\""));
}

#[test]
fn json_types_are_those_that_hold_every_row() {
    let rows = r#"[{"i": 1, "m": 1, "s": "x", "o": {"k": [1, 2.5]}, "n": null},
        {"m": 2.5, "i": null, "late": true, "s": null, "o": null, "n": null}, {}]"#;
    let expected = [
        "i: Int64 = 1 null null",
        "m: Float64 = 1.0 2.5 null",
        "s: Utf8 = x null null",
        "o: Struct(\"k\": List(Float64)) = {k: [1.0, 2.5]} null null",
        "n: Null = null null null",
        "late: Boolean = null true null",
    ];
    assert_eq!(shown(&parsed(Format::JsonRows, rows)), expected);
    let lines = rows.trim_matches(['[', ']']).replace("\n", "").replace("}, {", "}\r\n\n{");
    let lines = lines.replace("},        {", "}\n{");
    assert_eq!(shown(&parsed(Format::Ndjson, &lines)), expected);
    let columns =
        r#"{"i": [1, null, 3], "f": [1, 2, 0.5], "s": ["a", "b", null], "l": [[], null, [1]]}"#;
    assert_eq!(
        shown(&parsed(Format::JsonColumns, columns)),
        [
            "i: Int64 = 1 null 3",
            "f: Float64 = 1.0 2.0 0.5",
            "s: Utf8 = a b null",
            "l: List(Int64) = [] null [1]",
        ]
    );
    // Rows and columns are told apart by what they begin with.
    assert_eq!(shown(&parsed(Format::JsonRows, columns)).len(), 4);
}

#[test]
fn what_is_wrong_with_json_is_said_with_its_place() {
    for (format, text, said) in [
        (
            Format::JsonRows,
            r#"[{"a": 1}, {"a": "x"}]"#,
            "row 1: column \"a\": text here, but an integer before",
        ),
        (
            Format::JsonRows,
            r#"[{"a": {"b": [1, true]}}]"#,
            "row 0: column \"a.b\": true or false here",
        ),
        (
            Format::JsonRows,
            r#"[{"a": 9223372036854775808}]"#,
            "row 0: column \"a\": 9223372036854775808 does not fit int64",
        ),
        (
            Format::JsonRows,
            r#"[{"a": 1.5, "b": "12345678901234567890123"}, {"a": 123456789012345678901234}]"#,
            "row 1",
        ),
        (Format::JsonRows, r#"[{"a": 1}, 2]"#, "row 1 is no object"),
        (Format::JsonRows, r#"[{"a": 1},"#, "EOF"),
        (Format::JsonRows, r#"[{"a": 1}] x"#, "trailing"),
        (Format::JsonRows, "7", "neither a list of rows nor an object of columns"),
        (Format::Ndjson, "{\"a\": 1}\n{\"a\": nope}\n", "line 2"),
        (Format::Ndjson, "{\"a\": 1}\n\n{\"a\": [1]}\n", "line 3: column \"a\": a list here"),
        (
            Format::JsonColumns,
            r#"{"a": [1, 2], "b": [1]}"#,
            "column \"b\" has 1 values, but \"a\" has 2",
        ),
        (Format::JsonColumns, r#"{"a": [1, "x"]}"#, "column \"a\", row 1: text here"),
        (Format::JsonColumns, r#"{"a": 1}"#, "column \"a\" is no list"),
    ] {
        let error = refused(format, text.as_bytes());
        assert!(error.contains(said), "{error}\ndoes not say {said}");
    }
}

#[test]
fn a_large_float_is_no_integer() {
    let table = parsed(Format::JsonRows, r#"[{"a": 1e30}, {"a": 12345678901234567890.0}]"#);
    assert_eq!(shown(&table), ["a: Float64 = 1e30 1.2345678901234567e19"]);
}

#[test]
fn json_of_many_batches_is_one_table() {
    let rows: Vec<String> = (0..1000).map(|n| format!("{{\"n\": {n}}}")).collect();
    let columns: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let limits = Limits { batch_rows: 64, ..Limits::default() };
    for (format, text) in [
        (Format::JsonRows, format!("[{}]", rows.join(","))),
        (Format::Ndjson, rows.join("\n")),
        (Format::JsonColumns, format!("{{\"n\": [{}]}}", columns.join(","))),
    ] {
        let table = read(format, &Buffer::from(text.as_bytes()), &limits).unwrap().table;
        assert_eq!(table.batches.len(), 16);
        let batch = table.concat().unwrap();
        let numbers: &Int64Array = batch.column(0).as_any().downcast_ref().unwrap();
        assert!(numbers.values().iter().copied().eq(0..1000));
    }
}

/// Gives one piece per read, and counts them.
struct Pieces {
    pieces: std::vec::IntoIter<Vec<u8>>,
    given: Arc<std::sync::atomic::AtomicUsize>,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.given.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let piece = self.pieces.next().unwrap_or_default();
        out[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

#[test]
fn the_first_rows_are_there_before_the_rest_has_come() {
    for (format, pieces) in [
        (Format::Csv, ["a,b\n1,\"x\n", "y\"\n2,z\n3,\"", "w\"\n", "4,v"]),
        (
            Format::Ndjson,
            [
                "{\"a\":1,\"b\":\"x\\ny\"}\n{\"a\":2,",
                "\"b\":\"z\"}\n",
                "{\"a\":3,\"b\":\"w\"}\n",
                "{\"a\":4,\"b\":\"v\"}",
            ],
        ),
    ] {
        let given = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        let source = Pieces { pieces: pieces.into_iter(), given: given.clone() };
        let mut reader = open(format, Box::new(source), &Limits::default()).unwrap();
        let first = reader.next().unwrap().unwrap();
        assert!(first.num_rows() >= 1);
        assert!(given.load(std::sync::atomic::Ordering::Relaxed) <= 2, "{format}");
        let mut batches = vec![first];
        batches.extend(reader.by_ref().map(Result::unwrap));
        let table = Table { schema: reader.schema(), batches };
        assert_eq!(shown(&table), ["a: Int64 = 1 2 3 4", "b: Utf8 = x\ny z w v"]);
    }
}

#[test]
fn a_later_value_of_another_type_is_an_error_that_names_its_place() {
    for (format, first, second, said) in [
        (Format::Csv, "a\n1\n", "x\n", "column \"a\" at line"),
        (Format::Ndjson, "{\"a\":1}\n", "{\"a\":1}\n{\"b\":2}\n", "line 3: column \"b\" is new"),
        (
            Format::Ndjson,
            "{\"a\":1}\n",
            "{\"a\":1.5}\n",
            "line 2: column \"a\" is new, or of another",
        ),
    ] {
        let pieces = vec![first.as_bytes().to_vec(), second.as_bytes().to_vec()];
        let source = Pieces { pieces: pieces.into_iter(), given: Arc::default() };
        let mut reader = open(format, Box::new(source), &Limits::default()).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().num_rows(), 1);
        let error = reader.next().unwrap().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(reader.next().is_none());
    }
}

#[test]
fn a_batch_is_out_when_write_returns() {
    let table = mixed();
    let json = |format| written(format, &table).unwrap();
    for (format, end) in [(Format::Ndjson, ""), (Format::JsonRows, "]")] {
        let mut writer = Writer::new(format, table.schema.clone(), Vec::new()).unwrap();
        writer.write(&table.batches[0]).unwrap();
        let mut out = writer.get_mut().clone();
        out.extend_from_slice(end.as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), json(format));
    }
    let mut writer = Writer::new(Format::ArrowStream, table.schema.clone(), Vec::new()).unwrap();
    writer.write(&table.batches[0]).unwrap();
    let out = Buffer::from(writer.get_mut().as_slice());
    let back = read(Format::ArrowStream, &out, &Limits::default()).unwrap().table;
    assert_eq!(back.rows(), 2);
}

#[test]
fn a_batch_of_another_schema_is_refused_with_the_difference() {
    let one = table(vec![("a", Arc::new(Int64Array::from(vec![1])))]);
    let other = table(vec![("a", Arc::new(StringArray::from(vec!["x"])))]);
    for format in Format::ALL {
        let mut writer = Writer::new(format, one.schema.clone(), Vec::new()).unwrap();
        writer.write(&one.batches[0]).unwrap();
        let error = writer.write(&other.batches[0]).unwrap_err().to_string();
        assert!(error.contains("- a: int64") && error.contains("+ a: utf8"), "{error}");
    }
}
