//! Amounts for people: rounded, so that they fit a column.

use windlass_api::{
    quantity::{CpuMillis, MemoryBytes},
    resource::Capacity,
};

/// `0.25/2`: cores that are set aside, of all.
pub(crate) fn cpu(used: &Capacity, all: &Capacity) -> String {
    format!("{}/{}", cores(used.cpu), cores(all.cpu))
}

/// `64Mi/3.8Gi`: memory that is set aside, of all.
pub(crate) fn memory(used: &Capacity, all: &Capacity) -> String {
    format!("{}/{}", bytes(used.memory), bytes(all.memory))
}

/// `0.25`: cores.
pub(crate) fn cores(cpu: CpuMillis) -> String {
    let (whole, rest) = (cpu.0 / 1000, cpu.0 % 1000);
    let fraction = format!("{rest:03}");
    match fraction.trim_end_matches('0') {
        "" => whole.to_string(),
        digits => format!("{whole}.{digits}"),
    }
}

/// `64Mi`: an amount of bytes.
pub(crate) fn bytes(memory: MemoryBytes) -> String {
    for (unit, size) in [
        ("Ti", 1_u64 << 40),
        ("Gi", 1 << 30),
        ("Mi", 1 << 20),
        ("Ki", 1 << 10),
    ] {
        if memory.0 >= size {
            let tenths = u128::from(memory.0) * 10 / u128::from(size);
            return match (tenths / 10, tenths % 10) {
                (whole, 0) => format!("{whole}{unit}"),
                (whole, _) if whole >= 100 => format!("{whole}{unit}"),
                (whole, tenth) => format!("{whole}.{tenth}{unit}"),
            };
        }
    }
    memory.0.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        for (millis, text) in [(0, "0"), (250, "0.25"), (2_000, "2"), (1_005, "1.005")] {
            assert_eq!(cores(CpuMillis(millis)), text);
        }
        for (amount, text) in [
            (0, "0"),
            (1 << 20, "1Mi"),
            (64 << 20, "64Mi"),
            (3_900_000_000, "3.6Gi"),
            (500_500 << 10, "488Mi"),
            (u64::MAX, "16777215Ti"),
        ] {
            assert_eq!(bytes(MemoryBytes(amount)), text);
        }
    }
}
