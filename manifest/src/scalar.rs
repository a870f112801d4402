//! Scalars, read by the core schema of YAML 1.2: `yes` and `on` are text, `0o17` is a number.

/// A scalar as it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar {
    /// The text, without quotes and escapes.
    pub(crate) text: String,
    pub(crate) form: Form,
}

/// Whether a scalar may be something else than text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// It was written without quotes: its text decides what it is.
    Plain,
    /// It was quoted, or written as a block: it is text.
    Text,
}

/// What a scalar is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Resolved<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    /// Below zero.
    Signed(i64),
    /// A whole number beyond 64 bits.
    Huge(&'a str),
    Float(f64),
    Text(&'a str),
}

impl Scalar {
    pub(crate) fn resolve(&self) -> Resolved<'_> {
        match self.form {
            Form::Plain => resolve(&self.text),
            Form::Text => Resolved::Text(&self.text),
        }
    }
}

/// What a text without quotes is.
pub(crate) fn resolve(text: &str) -> Resolved<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Bool(true),
        "false" | "False" | "FALSE" => return Resolved::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let infinity = f64::INFINITY;
        return Resolved::Float(if text.starts_with('-') {
            -infinity
        } else {
            infinity
        });
    }
    match based(text).or_else(|| decimal(text)) {
        Some(number) => number,
        None if is_float(unsigned) => text.parse().map_or(Resolved::Text(text), Resolved::Float),
        None => Resolved::Text(text),
    }
}

/// Octal and hexadecimal numbers, which have no sign.
fn based(text: &str) -> Option<Resolved<'_>> {
    let (digits, radix) = match text.strip_prefix("0o") {
        Some(digits) => (digits, 8),
        None => (text.strip_prefix("0x")?, 16),
    };
    let well_formed = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    well_formed.then(|| {
        u64::from_str_radix(digits, radix).map_or(Resolved::Huge(text), Resolved::Unsigned)
    })
}

fn decimal(text: &str) -> Option<Resolved<'_>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let below_zero = |n: i64| u64::try_from(n).map_or(Resolved::Signed(n), Resolved::Unsigned);
    let number = text.parse().map(Resolved::Unsigned);
    let number = number.or_else(|_| text.parse().map(below_zero));
    Some(number.unwrap_or(Resolved::Huge(text)))
}

/// `[0-9]+(\.[0-9]*)?` or `\.[0-9]+`, then perhaps an exponent; not what is whole.
fn is_float(text: &str) -> bool {
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    digits(before) && digits(after) && !(before.is_empty() && after.is_empty()) && exponent_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_schema_decides() {
        for (text, expected) in [
            ("", Resolved::Null),
            ("~", Resolved::Null),
            ("true", Resolved::Bool(true)),
            ("FALSE", Resolved::Bool(false)),
            ("0", Resolved::Unsigned(0)),
            ("-0", Resolved::Unsigned(0)),
            ("+7", Resolved::Unsigned(7)),
            ("007", Resolved::Unsigned(7)),
            ("-7", Resolved::Signed(-7)),
            ("0o17", Resolved::Unsigned(15)),
            ("0xFf", Resolved::Unsigned(255)),
            ("18446744073709551615", Resolved::Unsigned(u64::MAX)),
            ("-9223372036854775808", Resolved::Signed(i64::MIN)),
            ("1.5", Resolved::Float(1.5)),
            (".5", Resolved::Float(0.5)),
            ("1.", Resolved::Float(1.0)),
            ("-1e3", Resolved::Float(-1000.0)),
            ("1E+2", Resolved::Float(100.0)),
            ("-.inf", Resolved::Float(f64::NEG_INFINITY)),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
        for huge in [
            "18446744073709551616",
            "-9223372036854775809",
            "0xfffffffffffffffff",
        ] {
            assert_eq!(resolve(huge), Resolved::Huge(huge));
        }
        for text in [
            "yes",
            "on",
            "True1",
            ".",
            "-",
            "+",
            "e3",
            "1e",
            "1e+",
            "0x",
            "-0x1",
            "0o8",
            "1_000",
            "1:30",
            "--1",
            "+-1",
            "inf",
            "nan",
            "1.2.3",
            "2024-01-01",
            ".e1",
        ] {
            assert_eq!(resolve(text), Resolved::Text(text), "{text}");
        }
    }
}
