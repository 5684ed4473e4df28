//! Dates, times and durations as text, by exactly the forms `docs/types.md` has.

/// A date; its parts are in the range of Python's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: u16,
    pub(super) month: u8,
    pub(super) day: u8,
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) hour: u8,
    pub(super) minute: u8,
    pub(super) second: u8,
    pub(super) micros: u32,
    /// Digits that the fraction of the second has.
    pub(super) digits: usize,
    /// Minutes from UTC, where it says.
    pub(super) offset: Option<i16>,
}

/// A duration, in parts that Python's `timedelta` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Duration {
    pub(super) days: i64,
    pub(super) seconds: i64,
    pub(super) micros: i64,
}

/// What is left of a text.
struct Scan<'a>(&'a [u8]);

/// Python's limit, and ours for each number in a duration.
const DAYS: i64 = 999_999_999;
const LARGEST: i64 = DAYS * 86_400;

/// `2026-01-31T12:00:00.5+01:00`.
pub(super) fn datetime(text: &str) -> Option<(Date, Clock)> {
    let mut scan = Scan(text.as_bytes());
    let date = scan.date()?;
    scan.either(b'T', b't')?;
    let clock = scan.clock(true)?;
    scan.end((date, clock))
}

/// `2026-01-31`.
pub(super) fn date(text: &str) -> Option<Date> {
    let mut scan = Scan(text.as_bytes());
    let date = scan.date()?;
    scan.end(date)
}

/// `12:00:00`, `12:00`, with or without an offset.
pub(super) fn time(text: &str) -> Option<Clock> {
    let mut scan = Scan(text.as_bytes());
    let clock = scan.clock(false)?;
    scan.end(clock)
}

/// `P1DT2H3.5S`, `-PT1S`, `P2W`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut scan = Scan(text.as_bytes());
    let negative = scan.take(b'-').is_some();
    scan.take(b'P')?;
    let (mut days, mut seconds, mut micros) = (0, 0, 0);
    if scan.0.first()?.is_ascii_digit() {
        let number = scan.number()?;
        if scan.take(b'W').is_some() {
            days = number.checked_mul(7)?;
            scan.end(())?;
        } else {
            scan.take(b'D')?;
            days = number;
        }
    }
    if !scan.0.is_empty() {
        scan.take(b'T')?;
        (seconds, micros) = scan.in_day()?;
    }
    days += seconds / 86_400;
    seconds %= 86_400;
    let sign = if negative { -1 } else { 1 };
    let (days, seconds, micros) = (sign * days, sign * seconds, sign * micros);
    // Python's range: from -999999999 days to just below 1000000000.
    let fits =
        days.abs() < DAYS || (days.abs() == DAYS && (!negative || (seconds == 0 && micros == 0)));
    (fits && scan.0.is_empty()).then_some(Duration { days, seconds, micros })
}

/// The 32 digits of a UUID, and a zero byte.
pub(super) fn uuid(text: &str) -> Option<[u8; 33]> {
    let mut digits = [0; 33];
    let mut count = 0;
    for (index, byte) in text.bytes().enumerate() {
        match index {
            8 | 13 | 18 | 23 if byte == b'-' => {}
            8 | 13 | 18 | 23 => return None,
            _ if byte.is_ascii_hexdigit() && count < 32 => {
                digits[count] = byte;
                count += 1;
            }
            _ => return None,
        }
    }
    (count == 32).then_some(digits)
}

/// Whether a text is a decimal number: `-1.50`, `1e3`.
pub(super) fn is_decimal(text: &str) -> bool {
    let mut scan = Scan(text.as_bytes());
    scan.take(b'-');
    if scan.digits().is_empty() {
        return false;
    }
    if scan.take(b'.').is_some() && scan.digits().is_empty() {
        return false;
    }
    if scan.either(b'e', b'E').is_some() {
        let _ = scan.either(b'+', b'-');
        if scan.digits().is_empty() {
            return false;
        }
    }
    scan.0.is_empty()
}

// === impl Scan ===

impl<'a> Scan<'a> {
    fn take(&mut self, wanted: u8) -> Option<()> {
        match self.0 {
            [first, rest @ ..] if *first == wanted => {
                self.0 = rest;
                Some(())
            }
            _ => None,
        }
    }

    fn either(&mut self, one: u8, other: u8) -> Option<()> {
        self.take(one).or_else(|| self.take(other))
    }

    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }

    fn digits(&mut self) -> &'a [u8] {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        digits
    }

    /// A number of exactly this many digits.
    fn fixed(&mut self, count: usize) -> Option<u16> {
        let digits = self.0.get(..count)?;
        self.0 = &self.0[count..];
        digits.iter().try_fold(0, |number: u16, byte| {
            byte.is_ascii_digit().then(|| number * 10 + u16::from(byte - b'0'))
        })
    }

    fn two(&mut self, most: u8) -> Option<u8> {
        let number = u8::try_from(self.fixed(2)?).ok()?;
        (number <= most).then_some(number)
    }

    fn date(&mut self) -> Option<Date> {
        let year = self.fixed(4)?;
        self.take(b'-')?;
        let month = self.two(12)?;
        self.take(b'-')?;
        let day = self.two(31)?;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u8::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let right = year > 0 && month > 0 && (1..=days).contains(&day);
        right.then_some(Date { year, month, day })
    }

    fn clock(&mut self, with_seconds: bool) -> Option<Clock> {
        let hour = self.two(23)?;
        self.take(b':')?;
        let minute = self.two(59)?;
        let (mut second, mut micros, mut digits) = (0, 0, 0);
        if self.take(b':').is_some() {
            second = self.two(59)?;
            let before = self.0.len();
            micros = self.fraction()?;
            // The point is none.
            digits = (before - self.0.len()).saturating_sub(1);
        } else if with_seconds {
            return None;
        }
        let offset = self.offset()?;
        Some(Clock { hour, minute, second, micros, digits, offset })
    }

    /// Millionths; digits beyond are cut.
    fn fraction(&mut self) -> Option<u32> {
        if self.take(b'.').is_none() {
            return Some(0);
        }
        let digits = self.digits();
        let six = digits.iter().map(|byte| u32::from(byte - b'0')).chain(std::iter::repeat(0));
        let micros = six.take(6).fold(0, |number, digit| number * 10 + digit);
        (!digits.is_empty()).then_some(micros)
    }

    fn offset(&mut self) -> Option<Option<i16>> {
        if self.either(b'Z', b'z').is_some() {
            return Some(Some(0));
        }
        let sign = match self.0.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Some(None),
        };
        self.0 = &self.0[1..];
        let hours = i16::from(self.two(23)?);
        self.take(b':')?;
        Some(Some(sign * (hours * 60 + i16::from(self.two(59)?))))
    }

    /// A number no larger than what can be counted with.
    fn number(&mut self) -> Option<i64> {
        let digits = self.digits();
        if digits.is_empty() {
            return None;
        }
        let add = |number: i64, byte: &u8| {
            let number = number.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
            (number <= LARGEST).then_some(number)
        };
        digits.iter().try_fold(0, add)
    }

    /// Hours, minutes and seconds, in this order, at least one of them: seconds and millionths.
    fn in_day(&mut self) -> Option<(i64, i64)> {
        let (mut seconds, mut micros) = (0, 0);
        let mut units = [(b'H', 3600), (b'M', 60), (b'S', 1)].into_iter();
        while !self.0.is_empty() {
            let number = self.number()?;
            let fraction = self.0.first() == Some(&b'.');
            micros = i64::from(self.fraction()?);
            let unit = *self.0.first()?;
            self.0 = &self.0[1..];
            let (_, each) = units.find(|(letter, _)| *letter == unit)?;
            if fraction && each != 1 {
                return None;
            }
            seconds += number.checked_mul(each)?;
        }
        // Something has to follow the T.
        (units.len() < 3).then_some((seconds, micros))
    }
}
