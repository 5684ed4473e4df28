//! The numbers and shared words of the extension types. `docs/values.md` has the layouts.

use crate::values::object::Lazy;

/// Numbers of extension types. They never change their meaning; new types take new numbers.
pub(super) mod number {
    pub(in super::super) const INT: i8 = 1;
    pub(in super::super) const COMPLEX: i8 = 2;
    pub(in super::super) const SURROGATE_STR: i8 = 3;
    pub(in super::super) const BYTEARRAY: i8 = 4;
    pub(in super::super) const TUPLE: i8 = 5;
    pub(in super::super) const SET: i8 = 6;
    pub(in super::super) const FROZENSET: i8 = 7;
    pub(in super::super) const DATE: i8 = 8;
    pub(in super::super) const TIME: i8 = 9;
    pub(in super::super) const DATETIME: i8 = 10;
    pub(in super::super) const TIMEDELTA: i8 = 11;
    pub(in super::super) const DECIMAL: i8 = 12;
    pub(in super::super) const FRACTION: i8 = 13;
    pub(in super::super) const UUID: i8 = 14;
    pub(in super::super) const RANGE: i8 = 15;
    pub(in super::super) const PICKLE: i8 = 16;
    pub(in super::super) const TABLE: i8 = crate::attach::TABLE;
    pub(in super::super) const TENSOR: i8 = crate::attach::TENSOR;
}

/// The first byte of a zone; a naive time has none.
pub(super) mod zone {
    pub(in super::super) const UTC: u8 = 0;
    pub(in super::super) const OFFSET: u8 = 1;
    pub(in super::super) const NAMED_OFFSET: u8 = 2;
    pub(in super::super) const KEY: u8 = 3;
}

/// The bit of a time's flags that says it is the second of two equal wall times.
pub(super) const FOLD: u8 = 1;

pub(super) static DATE: Lazy = Lazy::new("datetime", "date");
pub(super) static TIME: Lazy = Lazy::new("datetime", "time");
pub(super) static DATETIME: Lazy = Lazy::new("datetime", "datetime");
pub(super) static TIMEDELTA: Lazy = Lazy::new("datetime", "timedelta");
pub(super) static TIMEZONE: Lazy = Lazy::new("datetime", "timezone");
pub(super) static ZONEINFO: Lazy = Lazy::new("zoneinfo", "ZoneInfo");
pub(super) static DECIMAL: Lazy = Lazy::new("decimal", "Decimal");
pub(super) static FRACTION: Lazy = Lazy::new("fractions", "Fraction");
pub(super) static UUID: Lazy = Lazy::new("uuid", "UUID");
pub(super) static SAFE_UUID: Lazy = Lazy::new("uuid", "SafeUUID");
pub(super) static DUMPS: Lazy = Lazy::new("pickle", "dumps");
pub(super) static LOADS: Lazy = Lazy::new("pickle", "loads");
