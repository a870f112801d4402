//! Amounts of CPU and memory, as people write them: `250m`, `1.5`, `64Mi`, `1G`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most CPU that can be asked for: far above any machine, far below overflow.
const CPU_MILLIS_MAX: u64 = 1_000_000;
/// The most memory that can be asked for: 1 EiB.
const MEMORY_BYTES_MAX: u64 = 1 << 60;

/// Why a string is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not an amount of CPU.
    #[error(
        "`{0}` is not an amount of cpu: write cores like `2` or `0.5`, or thousandths like `250m`"
    )]
    Cpu(String),
    /// Not an amount of memory.
    #[error(
        "`{0}` is not an amount of memory: write bytes, or a number with Ki, Mi, Gi, Ti, k, M, G or T, like `64Mi`"
    )]
    Memory(String),
    /// Beyond what any machine has.
    #[error("`{0}` is out of range")]
    Range(String),
}

/// CPU time, in thousandths of a core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuMillis(pub u64);

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryBytes(pub u64);

/// A decimal number as whole thousandths; `None` if it is no plain decimal or has more digits.
fn thousandths(s: &str) -> Option<u64> {
    let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let well_formed =
        digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    if !well_formed || fraction.len() > 3 || whole.len() > 18 {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    whole.checked_mul(1000)?.checked_add(fraction)
}

fn clip(s: &str) -> String {
    s.chars().take(40).collect()
}

impl FromStr for CpuMillis {
    type Err = QuantityError;
    fn from_str(s: &str) -> Result<Self, QuantityError> {
        let millis = match s.strip_suffix('m') {
            Some(m) if !m.is_empty() && m.bytes().all(|b| b.is_ascii_digit()) => m.parse().ok(),
            Some(_) => None,
            None => thousandths(s),
        };
        match millis {
            None => Err(QuantityError::Cpu(clip(s))),
            Some(m) if m > CPU_MILLIS_MAX => Err(QuantityError::Range(clip(s))),
            Some(m) => Ok(Self(m)),
        }
    }
}

impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            f.pad(&(self.0 / 1000).to_string())
        } else {
            f.pad(&format!("{}m", self.0))
        }
    }
}

const MEMORY_UNITS: [(&str, u64); 9] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl FromStr for MemoryBytes {
    type Err = QuantityError;
    fn from_str(s: &str) -> Result<Self, QuantityError> {
        let (number, unit) = MEMORY_UNITS
            .iter()
            .find_map(|(suffix, unit)| Some((s.strip_suffix(suffix)?, *unit)))
            .unwrap_or((s, 1));
        let millis = thousandths(number).ok_or_else(|| QuantityError::Memory(clip(s)))?;
        // A fraction is fine where it comes to whole bytes or more: 1.5Gi, 0.5k.
        let bytes = u128::from(millis) * u128::from(unit) / 1000;
        match u64::try_from(bytes) {
            Ok(b) if b <= MEMORY_BYTES_MAX => Ok(Self(b)),
            _ => Err(QuantityError::Range(clip(s))),
        }
    }
}

impl fmt::Display for MemoryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, unit) in MEMORY_UNITS[..4].iter().rev() {
            if self.0 >= *unit && self.0.is_multiple_of(*unit) {
                return f.pad(&format!("{}{suffix}", self.0 / unit));
            }
        }
        f.pad(&self.0.to_string())
    }
}

macro_rules! quantity_serde {
    ($name:ident, $pattern:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                crate::spec::ScalarText::deserialize(d)?.0.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "anyOf": [{ "type": "string", "pattern": $pattern }, { "type": "number", "minimum": 0 }]
                })
            }
        }
    };
}

quantity_serde!(CpuMillis, "^([0-9]+m|[0-9]*\\.?[0-9]+)$");
quantity_serde!(MemoryBytes, "^[0-9]*\\.?[0-9]+(Ki|Mi|Gi|Ti|k|K|M|G|T)?$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_reads_cores_and_thousandths() {
        for (text, millis) in [
            ("2", 2000),
            ("0.5", 500),
            ("250m", 250),
            (".25", 250),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(CpuMillis(millis)), "{text}");
        }
        for bad in ["", "m", "-1", "1e3", "0.0001", "1.5m", "two", "1 "] {
            assert!(bad.parse::<CpuMillis>().is_err(), "{bad}");
        }
        assert!("99999999999999999999".parse::<CpuMillis>().is_err());
        assert!("1000001".parse::<CpuMillis>().is_err());
    }

    #[test]
    fn memory_reads_binary_and_decimal_units() {
        for (text, bytes) in [
            ("64Mi", 64 << 20),
            ("1G", 1_000_000_000),
            ("1.5Ki", 1536),
            ("7", 7),
        ] {
            assert_eq!(text.parse(), Ok(MemoryBytes(bytes)), "{text}");
        }
        for bad in ["", "Mi", "-1Mi", "1MB", "1e6", "64 Mi", "99999999Ti"] {
            assert!(bad.parse::<MemoryBytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for millis in [0, 1, 250, 1000, 1500] {
            assert_eq!(CpuMillis(millis).to_string().parse(), Ok(CpuMillis(millis)));
        }
        for bytes in [0, 1, 1024, 1536, 64 << 20, 3 << 40] {
            assert_eq!(
                MemoryBytes(bytes).to_string().parse(),
                Ok(MemoryBytes(bytes))
            );
        }
    }
}
