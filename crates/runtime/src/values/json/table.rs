//! Data frames as rows: one object per row, names of columns as its keys.

use pyo3::{
    intern,
    prelude::*,
    types::{PyFloat, PyList, PyString, PyTuple},
};

use super::{
    convert::Kind,
    encode::{Encoder, SHORT, deeper, not_finite},
    iso::{self, Unit},
};
use crate::values::{
    Unfit,
    object::{exact, index_step, text_step, type_name},
};

/// A column, ready to be read row by row.
struct Column<'py> {
    name: String,
    /// `"name":`, as each row has it.
    key: Vec<u8>,
    cells: Cells<'py>,
}

enum Cells<'py> {
    /// Python objects as they are.
    Objects(Bound<'py, PyList>),
    /// pandas' cells: NaN says that there is none.
    Sparse(Bound<'py, PyList>),
    /// Times as ints, since making half a microsecond's worth of Timestamp of each is most of what
    /// a table of times would cost.
    Ticks { ticks: Bound<'py, PyList>, unit: Unit, utc: bool },
}

/// How the rows of a table, or the items of a list, follow each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As one JSON array.
    Array,
    /// Each on a line of its own.
    Lines,
}

/// What pandas counts as "not a time" among ticks.
const NOT_A_TIME: i64 = i64::MIN;

// === impl Encoder ===

impl<'py> Encoder<'_, 'py> {
    pub(super) fn pandas_rows(
        &mut self,
        frame: &Bound<'py, PyAny>,
        depth: u32,
        layout: Layout,
    ) -> Result<(), Unfit> {
        let rows = frame.len()?;
        let mut columns: Vec<Column<'py>> = Vec::new();
        for item in frame.call_method0(intern!(self.py, "items"))?.try_iter()? {
            let (label, series): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item?.extract()?;
            let cells = self.pandas_cells(&series)?;
            let column = self.column(&label, cells)?;
            columns.push(column);
        }
        self.rows(rows, &columns, depth, layout)
    }

    pub(super) fn polars_rows(
        &mut self,
        frame: &Bound<'py, PyAny>,
        depth: u32,
        layout: Layout,
    ) -> Result<(), Unfit> {
        let py = self.py;
        let rows = frame.getattr(intern!(py, "height"))?.extract()?;
        let mut columns = Vec::new();
        for series in frame.call_method0(intern!(py, "iter_columns"))?.try_iter()? {
            let series = series?;
            let items = series.call_method0(intern!(py, "to_list"))?;
            let label = series.getattr(intern!(py, "name"))?;
            columns.push(self.column(&label, Cells::Objects(list(items)?))?);
        }
        self.rows(rows, &columns, depth, layout)
    }

    /// A Series or an Index as the list of its cells.
    pub(super) fn pandas_column(
        &mut self,
        series: &Bound<'py, PyAny>,
        depth: u32,
        layout: Layout,
    ) -> Result<(), Unfit> {
        let depth = deeper(depth)?;
        let cells = self.pandas_cells(series)?;
        let count = cells.len();
        for row in 0..count {
            Unfit::room(self.out, SHORT)?;
            self.begin(layout, row);
            self.cell(&cells, row, depth).map_err(|unfit| unfit.at(|| index_step(row)))?;
            self.end(layout, row + 1 == count);
        }
        self.close_empty(layout, count);
        Ok(())
    }

    fn column(
        &mut self,
        label: &Bound<'py, PyAny>,
        cells: Cells<'py>,
    ) -> Result<Column<'py>, Unfit> {
        if label.is_instance_of::<PyTuple>() {
            return Err(Unfit::new(
                "a column has a name of several levels; flatten the columns before returning them",
            ));
        }
        // The key is written as any key is, then taken back from the output.
        let start = self.out.len();
        match exact::<PyString>(label) {
            Some(label) => self.string(label).map_err(|unfit| unfit.at(|| "<column>".into()))?,
            None => {
                let label = self.key_text(label)?;
                super::text::write(self.out, &label)?;
            }
        }
        let mut key = self.out.split_off(start);
        key.push(b':');
        Ok(Column { name: label.str()?.to_string_lossy().into_owned(), key, cells })
    }

    /// The cells of a Series or an Index.
    fn pandas_cells(&self, series: &Bound<'py, PyAny>) -> Result<Cells<'py>, Unfit> {
        if let Some(ticks) = self.pandas_ticks(series)? {
            return Ok(ticks);
        }
        Ok(Cells::Sparse(list(series.call_method0(intern!(self.py, "tolist"))?)?))
    }

    /// A column of times without a zone or in UTC as ticks; `None` for any other.
    fn pandas_ticks(&self, series: &Bound<'py, PyAny>) -> PyResult<Option<Cells<'py>>> {
        let py = self.py;
        let dtype = series.getattr(intern!(py, "dtype"))?;
        let kind = dtype.getattr(intern!(py, "kind"))?;
        if kind.extract::<char>().ok() != Some('M') {
            return Ok(None);
        }
        let array = series.getattr(intern!(py, "array"))?;
        let (ticks, unit) = (intern!(py, "asi8"), intern!(py, "unit"));
        let (Some(ticks), Some(unit)) = (array.getattr_opt(ticks)?, array.getattr_opt(unit)?)
        else {
            return Ok(None); // times of Arrow are not made of ticks
        };
        let utc = match array.getattr_opt(intern!(py, "tz"))? {
            Some(zone) if !zone.is_none() => {
                if zone.str()?.to_str()? != "UTC" {
                    return Ok(None);
                }
                true
            }
            _ => false,
        };
        let Some(unit) = Unit::parse(&unit.extract::<String>()?) else { return Ok(None) };
        let ticks = ticks.call_method0(intern!(py, "tolist"))?;
        Ok(Some(Cells::Ticks { ticks: list(ticks)?, unit, utc }))
    }

    fn rows(
        &mut self,
        rows: usize,
        columns: &[Column<'py>],
        depth: u32,
        layout: Layout,
    ) -> Result<(), Unfit> {
        let depth = deeper(deeper(depth)?)?;
        check_names(columns)?;
        if columns.iter().any(|column| column.cells.len() != rows) {
            return Err(Unfit::changed("table"));
        }
        for row in 0..rows {
            self.begin(layout, row);
            let mut separator = b'{';
            for column in columns {
                Unfit::room(self.out, column.key.len() + SHORT)?;
                self.out.push(separator);
                separator = b',';
                self.out.extend_from_slice(&column.key);
                self.cell(&column.cells, row, depth)
                    .map_err(|unfit| unfit.at(|| text_step(&column.name)).at(|| index_step(row)))?;
            }
            self.close(columns.is_empty(), b'{', b'}')?;
            self.end(layout, row + 1 == rows);
        }
        self.close_empty(layout, rows);
        Ok(())
    }

    /// What comes before an item.
    fn begin(&mut self, layout: Layout, index: usize) {
        if layout == Layout::Array {
            self.out.push(if index == 0 { b'[' } else { b',' });
        }
    }

    /// What comes after an item.
    fn end(&mut self, layout: Layout, last: bool) {
        match layout {
            Layout::Array if last => self.out.push(b']'),
            Layout::Array => {}
            Layout::Lines => self.out.push(b'\n'),
        }
    }

    fn close_empty(&mut self, layout: Layout, count: usize) {
        if layout == Layout::Array && count == 0 {
            self.out.extend_from_slice(b"[]");
        }
    }

    fn cell(&mut self, cells: &Cells<'py>, row: usize, depth: u32) -> Result<(), Unfit> {
        match cells {
            Cells::Objects(list) => self.value(&list.get_item(row)?, depth),
            Cells::Sparse(list) => {
                let cell = list.get_item(row)?;
                match exact::<PyFloat>(&cell).map(|number| number.value()) {
                    Some(number) if number.is_nan() => self.out.extend_from_slice(b"null"),
                    Some(number) if number.is_infinite() => return Err(not_finite(number)),
                    _ => return self.odd_cell(&cell, depth),
                }
                Ok(())
            }
            Cells::Ticks { ticks, unit, utc } => {
                let ticks: i64 = ticks.get_item(row)?.extract()?;
                if ticks == NOT_A_TIME {
                    self.out.extend_from_slice(b"null");
                } else if !iso::write_ticks(self.out, ticks, *unit, *utc) {
                    return Err(Unfit::new("a year beyond 1 to 9999 has no place in JSON"));
                }
                Ok(())
            }
        }
    }

    /// A cell of pandas that is no plain NaN; numpy's own NaN in a column of objects is one too.
    fn odd_cell(&mut self, cell: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        if cell.is_instance_of::<PyFloat>()
            && self.kind(cell)? == Kind::Float
            && cell.extract::<f64>()?.is_nan()
        {
            self.out.extend_from_slice(b"null");
            return Ok(());
        }
        self.value(cell, depth)
    }
}

// === impl Cells ===

impl Cells<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Objects(list) | Self::Sparse(list) | Self::Ticks { ticks: list, .. } => {
                list.len()
            }
        }
    }
}

fn list(items: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyList>> {
    match items.cast_into::<PyList>() {
        Ok(list) => Ok(list),
        Err(error) => {
            let name = type_name(&error.into_inner());
            Err(pyo3::exceptions::PyTypeError::new_err(format!("a column gave a `{name}`")))
        }
    }
}

fn check_names(columns: &[Column<'_>]) -> Result<(), Unfit> {
    let mut keys: Vec<&Column<'_>> = columns.iter().collect();
    keys.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    match keys.windows(2).find(|pair| pair[0].key == pair[1].key) {
        Some(pair) => Err(Unfit::new(format!("two columns are called {:?}", pair[0].name))),
        None => Ok(()),
    }
}
