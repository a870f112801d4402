//! Puts an assignment together that came in several frames.

use windlass_api::wire::AssignmentFrame;

/// The most instances that an assignment may have: a Docker engine holds a thousand containers at
/// best, since its bridges end there; the rest is room for what comes and goes.
const INSTANCES_MAX: usize = 4096;

/// An assignment that is not whole yet.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    partial: Option<AssignmentFrame>,
}

/// The frames do not make an assignment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// They belong to two.
    #[error("a frame of another assignment came before the last one of this")]
    Mixed,
    /// They are too many.
    #[error("an assignment has at most {INSTANCES_MAX} instances")]
    TooMany,
}

impl Assembler {
    /// Takes the next frame. Returns the assignment if it is whole with it.
    pub(crate) fn push(
        &mut self,
        frame: AssignmentFrame,
    ) -> Result<Option<AssignmentFrame>, Error> {
        let whole = match self.partial.take() {
            None => frame,
            Some(mut partial) => {
                let number = |f: &AssignmentFrame| (f.epoch, f.generation, f.base);
                if number(&partial) != number(&frame) {
                    return Err(Error::Mixed);
                }
                partial.instances.extend(frame.instances);
                partial.removed.extend(frame.removed);
                partial.more = frame.more;
                partial
            }
        };
        if whole.instances.len() > INSTANCES_MAX || whole.removed.len() > INSTANCES_MAX {
            return Err(Error::TooMany);
        }
        if whole.more {
            self.partial = Some(whole);
            return Ok(None);
        }
        Ok(Some(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{instance, whole};

    fn last(generation: u64, ids: std::ops::Range<u32>) -> AssignmentFrame {
        let instances = ids.map(|n| instance(&format!("web-{n}-{n}"))).collect();
        whole(generation, instances)
    }

    fn part(generation: u64, ids: std::ops::Range<u32>) -> AssignmentFrame {
        AssignmentFrame {
            more: true,
            ..last(generation, ids)
        }
    }

    #[test]
    fn frames_become_one_assignment_with_the_last() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(part(2, 0..3)), Ok(None));
        assert_eq!(assembler.push(part(2, 3..5)), Ok(None));
        let done = assembler.push(last(2, 5..6)).unwrap().unwrap();
        assert_eq!(done, last(2, 0..6));
        assert_eq!(assembler.push(last(3, 0..1)), Ok(Some(last(3, 0..1))));
    }

    #[test]
    fn frames_of_two_assignments_are_not_mixed() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(part(2, 0..3)), Ok(None));
        assert_eq!(assembler.push(last(3, 3..5)), Err(Error::Mixed));
    }

    #[test]
    fn an_endless_assignment_is_cut_off() {
        let mut assembler = Assembler::default();
        let taken = (0..1000)
            .take_while(|n| assembler.push(part(2, n * 256..(n + 1) * 256)).is_ok())
            .count();
        assert_eq!(taken, INSTANCES_MAX / 256);
    }
}
